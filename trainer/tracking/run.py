"""One run on the tracking server: opened, recorded beside the training, and closed with the right status.

    python -m trainer.tracking.run sync FOLDER...

delivers what a run folder still holds after the server was away or the process died. It may be repeated freely.
"""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.core import artifacts, signals
from trainer.core.environment import git_state, redact
from trainer.core.errors import EmotionsError, TrackingError
from trainer.core.run_folder import has_results
from trainer.tracking.backend import Store
from trainer.tracking.connection import connect, describe, readable_errors
from trainer.tracking.event_log import EventLog, find_spools
from trainer.tracking.system_metrics import PREFIX as SYSTEM_PREFIX
from trainer.tracking.system_metrics import SystemMetrics
from trainer.tracking.tracker import MlflowTracker, NullTracker, Tracker
from trainer.tracking.uploader import Delivery

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["MlflowTracker", "NullTracker", "Tracker", "main", "open_run", "sync"]

_SIGTERM_EXIT = 128 + signal.SIGTERM
_SIGINT_EXIT = 128 + signal.SIGINT


@contextlib.contextmanager
def open_run(
    output: Path,
    *,
    experiment: str | None = None,
    resume: str | None = None,
    parameters: Mapping[str, object] | None = None,
    tags: Mapping[str, object] | None = None,
) -> Iterator[MlflowTracker]:
    """A tracker for one run, whose local folder is `output/<run id>`.

    Which run: `resume`, a run id; else the one that `mlflow run` made (`MLFLOW_RUN_ID`); else a new one in
    `experiment`, by default MLFLOW_EXPERIMENT_NAME or _ID, else `emotions`. What a killed process left in the folder
    of a resumed run is delivered first; the project run of `mlflow run -P resume=` is tagged with the run it continues.

    At exit the status is FINISHED; KILLED on SIGTERM (raised here as SystemExit(143)) and KeyboardInterrupt; FAILED on
    anything else, with the error as a tag. `mlflow run` leaves a status that is final as it is.
    Raises TrackingError within about 15 seconds when the server does not answer at the start. Later it may go away:
    everything is kept in the folder, the end of the run waits at most 30 seconds for it, and what is then left is no
    error: the training is done, and a warning names the `sync` command that delivers the rest.
    """
    store = connect()
    project_run = os.environ.pop("MLFLOW_RUN_ID", None)  # as mlflow does: children must not write into this run
    with signals.handled(signals.raise_exit, signal.SIGTERM):
        with readable_errors(store):
            run = _new_run(store, experiment, project_run) if resume is None else _existing_run(store, resume)
            other = project_run if project_run != run.info.run_id else None
            if other is not None:
                store.client.set_tag(other, artifacts.TAG_RESUMES, run.info.run_id)
            tracker = _start(store, run, output / run.info.run_id, is_resumed=resume is not None)
        with _recorded(tracker, other, _next_system_step(run)):
            tracker.set_tags({**_git_tags(run), **(tags or {})})
            if parameters:
                tracker.log_params(parameters)
            yield tracker


def sync(folder: Path, uri: str | None = None) -> int:
    """Deliver what the spool of a run folder still holds; returns the number of operations.

    Goes to `uri`, else MLFLOW_TRACKING_URI, else the server that the run was started on. A run whose process died
    without a word is RUNNING for ever: it becomes FINISHED when it has its results, else KILLED. Raises TrackingError
    when the server does not answer or refuses operations, and when the run's process is still alive.
    """
    with EventLog(folder) as spool:
        entries = list(spool.entries())
        opened = [entry for entry in entries if entry.kind == "open"]
        if not opened:
            raise TrackingError(
                f"run folder must hold a started run, but got {str(folder)!r}. Nothing was recorded in it."
            )
        has_ended = entries[-1].kind == "status"
        if has_ended and spool.delivered == spool.size:
            return 0
        store = connect(uri or os.environ.get("MLFLOW_TRACKING_URI") or str(opened[-1].content["uri"]))
        with readable_errors(store):
            count = _deliver(spool, store)
            if not has_ended:
                _mark_ended(store, opened[-1].run_id, has_results=has_results(folder, with_test=False))
        return count


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of this module; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainer.tracking.run", description="Runs kept on local disk.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("sync", help="deliver what run folders still hold to the tracking server")
    command.add_argument("folders", nargs="+", type=Path, help="run folders, or output folders that hold run folders")
    command.add_argument("--tracking-uri", help="default: MLFLOW_TRACKING_URI, else the server of the run")
    arguments = parser.parse_args(argv)
    try:
        for folder in arguments.folders:
            for spool in _spools_below(folder):
                print(f"{spool}: {sync(spool, arguments.tracking_uri)} operations delivered")
    except EmotionsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _new_run(store: Store, experiment: str | None, project_run: str | None) -> "Run":
    from mlflow.tracking.context.registry import resolve_tags

    if project_run is not None:
        return store.run(project_run)
    return store.client.create_run(_experiment_id(store, experiment), tags=resolve_tags())


def _existing_run(store: Store, run_id: str) -> "Run":
    from mlflow.exceptions import MlflowException

    advice = f"on {redact(store.uri)}. Give the id of a run there, or start a new run without resume."
    try:
        run = store.run(run_id)
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        raise TrackingError(f"resume must name an existing run, but got {run_id=} {advice}") from error
    if run.info.lifecycle_stage != "active":
        raise TrackingError(f"resume must name a run that is not deleted, but got {run_id=} {advice}")
    return run


def _experiment_id(store: Store, name: str | None) -> str:
    from mlflow.exceptions import MlflowException

    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if name is None and (given := os.environ.get("MLFLOW_EXPERIMENT_ID")):
        return given
    name = name or artifacts.DEFAULT_EXPERIMENT
    try:
        # Without the kind MLflow's page guesses, and takes a run with data sets for an evaluation of a language model.
        return store.client.create_experiment(name, tags={"mlflow.experimentKind": "custom_model_development"})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = store.client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise TrackingError(
            f"experiment must be active, but got {name=}, which is deleted. Restore it (`mlflow experiments restore`) "
            f"or name another."
        )
    return found.experiment_id


def _start(store: Store, run: "Run", folder: Path, *, is_resumed: bool) -> MlflowTracker:
    """A tracker on the run, now RUNNING, after delivering what an earlier process left in the folder."""
    run_id = run.info.run_id
    try:
        spool = EventLog(folder)
        Delivery(spool, store).drain()
        if artifacts.TAG_ERROR in run.data.tags:
            store.client.delete_tag(run_id, artifacts.TAG_ERROR)
        spool.append(run_id, "open", {"uri": redact(store.uri)})
        store.client.update_run(run_id, status="RUNNING")
    except BaseException as error:
        if not is_resumed:  # a run to be resumed keeps its status: another process may be alive on it
            store.client.set_tag(run_id, artifacts.TAG_ERROR, describe(error))
            store.client.set_terminated(run_id, "FAILED")
        raise
    return MlflowTracker(run_id, spool, store)


@contextlib.contextmanager
def _recorded(tracker: MlflowTracker, project_run: str | None, first_system_step: int) -> Iterator[None]:
    """Sample the system during the block, and give the run its status after it."""
    system_metrics = SystemMetrics(tracker.log_metrics, first_system_step)
    system_metrics.start()
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:
        failure = error
        raise
    finally:
        # A second Ctrl-C must not cost the run its status; the wait for the server is bounded.
        with signals.handled(signal.SIG_IGN, signal.SIGTERM, signal.SIGINT):
            system_metrics.stop()
            _end(tracker, failure, project_run)


def _end(tracker: MlflowTracker, failure: BaseException | None, project_run: str | None) -> None:
    status = _status(failure)
    try:
        if failure is not None and status != "FINISHED":
            tracker.set_tags({artifacts.TAG_ERROR: describe(failure)})
        tracker.close(status, project_run)
    except TrackingError as error:
        tracker.close_unspooled("FAILED", describe(failure or error))
        if failure is None:
            raise


def _status(failure: BaseException | None) -> str:
    if failure is None:
        return "FINISHED"
    if isinstance(failure, SystemExit):
        stops = {None: "FINISHED", 0: "FINISHED", _SIGTERM_EXIT: "KILLED", _SIGINT_EXIT: "KILLED"}
        return stops.get(failure.code, "FAILED") if not isinstance(failure.code, str) else "FAILED"
    return "KILLED" if isinstance(failure, KeyboardInterrupt) else "FAILED"


def _git_tags(run: "Run") -> dict[str, object]:
    git = git_state()
    if git is None or run.data.tags.get(artifacts.TAG_GIT_COMMIT, git.commit) != git.commit:
        return {}  # a resumed run keeps the commit it began with
    return {artifacts.TAG_GIT_COMMIT: git.commit, artifacts.TAG_GIT_DIRTY: git.dirty}


def _next_system_step(run: "Run") -> int:
    steps = [point.step for point in run.data.to_proto().metrics if point.key.startswith(SYSTEM_PREFIX)]
    return max(steps, default=-1) + 1


def _deliver(spool: EventLog, store: Store) -> int:
    delivery = Delivery(spool, store)
    count = delivery.drain()
    if delivery.refused:
        raise TrackingError(
            f"tracking server must take every operation, but refused {delivery.refused} of {count}, now in "
            f"{str(spool.folder)!r} as spool.refused.jsonl with their reasons. The others are delivered."
        )
    return count


def _mark_ended(store: Store, run_id: str, *, has_results: bool) -> None:
    if store.run(run_id).info.status != "RUNNING":
        return
    if has_results:
        store.client.set_terminated(run_id, "FINISHED")
    else:
        store.client.set_tag(run_id, artifacts.TAG_ERROR, "the process ended without a word: killed, or power lost")
        store.client.set_terminated(run_id, "KILLED")


def _spools_below(folder: Path) -> list[Path]:
    spools = find_spools(folder)
    if not spools:
        raise TrackingError(f"folder must be a run folder or hold some, but got {str(folder)!r}, which has no spool.")
    return spools


if __name__ == "__main__":
    sys.exit(main())
