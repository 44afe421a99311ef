"""One run on the tracking server: opened, recorded during the training, closed with its status, delivered later."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.core import artifacts, signals
from trainer.core.environment import git_state
from trainer.core.errors import EmotionsError, TrackingError
from trainer.core.redaction import redact
from trainer.core.run_folder import has_results
from trainer.core.tracebacks import keep_traceback
from trainer.tracking import page
from trainer.tracking.artifact_store import check_artifact_store
from trainer.tracking.backend import MlflowBackend
from trainer.tracking.connection import connect, describe_error, readable_errors
from trainer.tracking.event_log import REJECTED, EventLog, has_event_log
from trainer.tracking.nested import PARENT
from trainer.tracking.run_lookup import MissingRunError, existing_run, experiment_id, find_or_create_run
from trainer.tracking.system_metrics import PREFIX as SYSTEM_PREFIX
from trainer.tracking.system_metrics import SystemMetrics
from trainer.tracking.tracker import MlflowTracker, NullTracker, Tracker
from trainer.tracking.uploader import Uploader

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = [
    "MissingRunError",
    "MlflowTracker",
    "NullTracker",
    "RejectedEventsError",
    "Tracker",
    "open_run",
    "recreate",
    "report_failure",
    "sync",
]

_log = logging.getLogger(__name__)
_SYNC_ADVICE = (
    "Its folder keeps everything. Restore the server's database, set MLFLOW_TRACKING_URI to the server that has the "
    "run, or give recreate=true to make it there again under a new id; then run the same command again."
)


class RejectedEventsError(TrackingError):
    """The server refused some of the events of a run folder for good; all others are delivered."""


@dataclass(frozen=True)
class _Opening:
    """A run of this process that is not started."""

    run: "Run"
    folder: Path
    project_run: str | None
    """The run that `mlflow run` made, where another one is continued."""
    prepare: Callable[[Path], object]
    is_resumed: bool


@contextlib.contextmanager
def open_run(  # noqa: PLR0913  # which run it is, and what is known of it at its start
    output: Path,
    prepare: Callable[[Path], object] = lambda folder: None,
    *,
    name: str | None = None,
    experiment: str | None = None,
    resume: str | None = None,
    parameters: Mapping[str, object] | None = None,
    tags: Mapping[str, object] | None = None,
) -> Iterator[MlflowTracker]:
    """Open a run whose local folder is `output/<run id>`, and yield its tracker.

    Which run: `resume`, a run id; else the one that `mlflow run` made (`MLFLOW_RUN_ID`); else a new one in
    `experiment`, by default MLFLOW_EXPERIMENT_NAME or _ID, else `emotions`. `name` is its name unless the user gave
    one. `prepare` writes the first files into the folder, before the run is started. What a killed process left in the
    folder of a resumed run is delivered first; the project run of `mlflow run -P resume=` gets a tag with the run that
    it continues.

    At exit the status is FINISHED; KILLED after a stop signal, which is raised here; FAILED after any other exception,
    which becomes a tag. `mlflow run` does not change a final status.
    Raises TrackingError within about 15 seconds when the server does not answer at the start. Later it may go away or
    refuse events: all are kept in the folder, the end of the run waits a limited time, and a warning names the `sync`
    command that delivers the rest. The training itself is complete, so this is no error, unless a right was missing.
    """
    backend = connect()
    with signals.raise_stops(), signals.hold_stops() as raise_held_stop:  # a run that is created gets a final status
        with readable_errors(backend):
            project_run = os.environ.get("MLFLOW_RUN_ID")
            run = find_or_create_run(backend, experiment, resume, project_run, name)
            os.environ.pop("MLFLOW_RUN_ID", None)  # as mlflow does: children must not write into this run
            other = project_run if project_run != run.info.run_id else None
        opening = _Opening(run, output / run.info.run_id, other, prepare, is_resumed=resume is not None)
        with _recorded(backend, opening, raise_held_stop) as tracker:
            tracker.set_tags({**_redacted_tags(run), **_git_tags(run), **(tags or {})})
            if parameters:
                tracker.log_params(parameters)
            yield tracker


def sync(folder: Path) -> int:
    """Deliver the events that a run folder still contains; return their number.

    The server is that of MLFLOW_TRACKING_URI, else the one that the run was started on. Events that a server refused
    are sent again. A run whose process died is RUNNING without end: it becomes FINISHED when it has its
    results, else KILLED. Raises RejectedEventsError when the server refuses events, other TrackingErrors when it does
    not answer and when the process of the run is alive.
    """
    if not has_event_log(folder):
        raise TrackingError(f"{folder} is no run folder, and no folder with run folders: it has no event log.")
    with EventLog(folder) as log:
        events = list(log.events())
        opened = [event for event in events if event.kind == "open"]
        # Without any event the process was killed when it had just made the folder, which has the id of the run.
        run_id, has_ended = opened[-1].run_id if opened else folder.name, bool(events) and events[-1].kind == "status"
        if has_ended and log.delivered == log.size and not log.has_rejected:
            return 0
        # The address in the log lacks its password, so the variable comes first.
        started_on = str(opened[-1].content["uri"]) if opened else None
        backend = connect(os.environ.get("MLFLOW_TRACKING_URI") or started_on)
        uploader = Uploader(log, backend)
        with readable_errors(backend):
            status = existing_run(backend, run_id, _SYNC_ADVICE).info.status
            log.requeue_rejected()
            if not has_ended:
                _log_end(log, run_id, status, folder)
            count = uploader.upload_pending()
    if uploader.rejected:
        raise RejectedEventsError(
            f"The server refused {uploader.rejected} of {count} events of {folder} ({uploader.reason}) and has the "
            f"others. {_what_to_do(uploader)} Then run the same command again, or delete {REJECTED} there, which has "
            "the reasons, to give them up."
        )
    return count


def _what_to_do(uploader: Uploader) -> str:
    return uploader.refusal[1] if uploader.refusal else "Correct the cause."


def recreate(folder: Path) -> Path:
    """Make the run of a folder again on a server that does not have it; return the folder, renamed to the new run id.

    Nothing is uploaded: `sync` delivers the events. The experiment is that of the environment, as for new runs.
    """
    with EventLog(folder) as log:
        opened = [event for event in log.events() if event.kind == "open"][-1]
        backend = connect(os.environ.get("MLFLOW_TRACKING_URI") or str(opened.content["uri"]))
        name = str(opened.content.get("name") or "") or None
        with readable_errors(backend):
            run_id = backend.create_run(experiment_id(backend, None), {}, name).info.run_id
        log.change_run(opened.run_id, run_id)
    return folder.rename(folder.with_name(run_id))


def report_failure(error: BaseException) -> None:
    """Tag the run that `mlflow run` made with an error from before it was opened, such as a wrong setting.

    After a stop signal its status is KILLED; `mlflow run` itself would make it FAILED.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID")  # `open_run` removes it
    if run_id is None:
        return
    try:
        client = connect().client
        page.describe_failure(client, client.get_run(run_id), _reason(error))
        if signals.is_stop(error):
            client.set_terminated(run_id, "KILLED")
    except Exception as failure:  # the command still reports `error` itself
        _log.warning("Cannot tag run %s with its error (%s).", run_id, redact(str(failure)))


def _start(backend: MlflowBackend, run: "Run", log: EventLog) -> MlflowTracker:
    """Deliver what an earlier process left in the folder, make the run RUNNING, and return its tracker."""
    run_id = run.info.run_id
    Uploader(log, backend).upload_pending()
    # `sync` reads from it where the run was started, and `recreate` its name.
    log.append(run_id, "open", {"uri": redact(backend.uri), "name": run.info.run_name})
    check_artifact_store(backend.client, run)
    backend.set_running(run_id)
    log.mark_delivered(log.size)  # `set_running` has done what the event "open" asks for
    return MlflowTracker(run_id, log, backend, page.address(run))


@contextlib.contextmanager
def _recorded(
    backend: MlflowBackend, opening: _Opening, raise_held_stop: Callable[[], None]
) -> Iterator[MlflowTracker]:
    """Start the run, sample the system during the block, and give the run its status after it."""
    log = tracker = system_metrics = failure = None
    try:
        raise_held_stop()
        log = EventLog(
            opening.folder
        )  # first: a run that is killed without a folder stays RUNNING, `sync` cannot know it
        opening.prepare(opening.folder)
        with readable_errors(backend):
            page.describe_experiment(backend.client, opening.run.info.experiment_id)
            if opening.project_run is not None:
                page.describe_resuming(backend.client, opening.project_run, opening.run)
            tracker = _start(backend, opening.run, log)
        system_metrics = SystemMetrics(tracker.log_metrics, tracker.next_step(SYSTEM_PREFIX))
        system_metrics.start()
        yield tracker
    except BaseException as error:
        failure = error
        raise
    finally:
        # A second Ctrl-C must not cost the run its status; the wait for the server is bounded.
        with signals.ignore_stops():
            if system_metrics is not None:
                system_metrics.stop()
            if tracker is not None:
                _end(tracker, failure, opening)
            elif failure is not None and (log is not None or not opening.is_resumed):  # else another process writes it
                _end_unstarted(backend, opening.run, log, failure)


def _end_unstarted(backend: MlflowBackend, run: "Run", log: EventLog | None, failure: BaseException) -> None:
    """Give a run that could not be started its final status."""
    try:
        backend.client.set_tag(run.info.run_id, artifacts.TAG_ERROR, _reason(failure))
        backend.client.set_terminated(run.info.run_id, _status(failure))
    except Exception as error:  # `failure` itself is reported by the command
        _log.error("Cannot end run %s (%s).", run.info.run_id, redact(str(error)))
    finally:
        if log is not None:
            log.close()


def _end(tracker: MlflowTracker, failure: BaseException | None, opening: _Opening) -> None:
    status = _status(failure)
    try:
        if failure is not None and status != "FINISHED":  # SystemExit(0) is no failure
            text = _reason(failure)
            tracker.set_tags({artifacts.TAG_ERROR: text, artifacts.TAG_NOTE: page.failure_note(text)})
            if isinstance(failure, Exception) and not isinstance(failure, EmotionsError):
                keep_traceback(failure, tracker.folder)
        tracker.close(status, opening.project_run)
        _report_refusal(tracker, opening.run, failure)
    except RejectedEventsError:
        raise
    except TrackingError as error:
        # The log cannot be written, as on a full disk.
        tracker.close_without_log("FAILED", describe_error(failure or error))
        if failure is None:
            raise


def _report_refusal(tracker: MlflowTracker, run: "Run", failure: BaseException | None) -> None:
    """Raise RejectedEventsError when a right was missing: what the command was asked for is not on the server.

    After another failure, and in a run nested under that of a command which reports it, this is a warning.
    """
    if not tracker.refusal:
        return
    if failure is None and PARENT not in run.data.tags:
        raise RejectedEventsError(tracker.refusal)
    _log.warning("%s", tracker.refusal)


def _reason(failure: BaseException) -> str:
    return signals.describe_stop(failure) if signals.is_stop(failure) else describe_error(failure)


def _status(failure: BaseException | None) -> str:
    if failure is None or (isinstance(failure, SystemExit) and failure.code in (None, 0)):
        return "FINISHED"
    return "KILLED" if signals.is_stop(failure) else "FAILED"


def _redacted_tags(run: "Run") -> dict[str, object]:
    """Return the tags of MLflow that contain a secret, without it, such as the address of a cloned project."""
    shown = {name: redact(value) for name, value in run.data.tags.items()}
    return {name: value for name, value in shown.items() if value != run.data.tags[name]}


def _git_tags(run: "Run") -> dict[str, object]:
    git = git_state()
    if git is None or run.data.tags.get(artifacts.TAG_GIT_COMMIT, git.commit) != git.commit:
        return {}  # a resumed run keeps the commit it began with
    return {artifacts.TAG_GIT_COMMIT: git.commit, artifacts.TAG_GIT_DIRTY: git.dirty}


def _log_end(log: EventLog, run_id: str, status: str, folder: Path) -> None:
    """Log the status of a run whose process has died: the one that somebody else gave it, if any.

    Partly written files of that process are removed.
    """
    for partial in folder.rglob(".*.partial"):
        partial.unlink()
    if status == "RUNNING" and has_results(folder, with_test=False):
        status = "FINISHED"
    elif status == "RUNNING":
        status = "KILLED"
        reason = "The process ended without a status: it was killed, or power was lost."
        log.append(run_id, "tags", {"tags": {artifacts.TAG_ERROR: reason}})
    log.append(run_id, "status", {"status": status})
