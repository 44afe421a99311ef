"""Records a run: `Tracker` records nothing, `MlflowTracker` records on an MLflow server."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import SupportsFloat

from trainer.core import artifacts
from trainer.core.errors import TrackingError
from trainer.core.redaction import redact
from trainer.core.run_folder import sync_command
from trainer.tracking.artifact_store import check_artifact_store
from trainer.tracking.backend import MlflowBackend
from trainer.tracking.connection import readable_errors
from trainer.tracking.delivery_errors import short_reason
from trainer.tracking.event_log import REJECTED, EventLog
from trainer.tracking.refusals import check_registry_right
from trainer.tracking.uploader import BackgroundUploader

__all__ = ["MlflowTracker", "NullTracker", "Tracker"]

# Seconds to wait for the next delivery, and during the upload of a file or model. A server restarts in less, and TCP
# needs up to two minutes to notice that a network is back after one.
_LIMITS = (120.0, 600.0)
_REGISTER_SECONDS = 30.0
_KILLED_LIMITS = (10.0, 10.0)  # schedulers send SIGKILL about 30 seconds after SIGTERM

_log = logging.getLogger(__name__)


class Tracker:
    """The calls by which a run is recorded; here they do nothing.

    No call waits for a server, except `register` and `flush`, which end within a time limit.
    """

    def __init__(self, run_id: str, folder: Path) -> None:
        self.run_id = run_id
        self.folder = folder
        """Local folder of the run; files must be in it before they are logged."""
        self.page = ""
        """Address of the run on MLflow's page, relative to that page."""

    @property
    def refusal(self) -> str:
        """Which right is missing for events that the server refused, and what to do; empty when none is."""
        return ""

    def log_metrics(self, metrics: Mapping[str, SupportsFloat], step: int) -> None:
        """Log values at `step` with the present time. Raises ValueError for a name that MLflow refuses."""

    def log_evaluation(self, model_id: str, dataset: tuple[str, str], metrics: Mapping[str, SupportsFloat]) -> None:
        """Log metrics of a logged model on a data set, and make the model an input of the run.

        model_id: empty for metrics of no model on the server. dataset: name and digest, as given to `log_dataset`.
        """

    def log_params(self, parameters: Mapping[str, object]) -> None:
        """Log settings as `cfg.<name>`. Where a resumed run had another value, the new one becomes a tag."""

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags of the run; a later value replaces an earlier one."""

    def log_artifact(self, path: str) -> None:
        """Upload a file, or all files of a folder, named relative to `folder`."""

    def store_artifact(self, path: str) -> None:
        """Upload a small file now. Raises TrackingError, with the location and the cause, when it cannot be stored."""

    def log_artifacts(self) -> None:
        """Upload those of `artifacts.UPLOADED` that exist in the folder."""

    def tag_tables(self, names: Iterable[str]) -> None:
        """Tell MLflow that the artifacts of these names are tables, written by `text_files.write_table`."""
        tables = [{"path": name, "type": "table"} for name in names]
        self.set_tags({"mlflow.loggedArtifacts": json.dumps(tables)})

    def log_dataset(
        self,
        name: str,
        digest: str,
        context: str,
        source: str,
        profile: Mapping[str, object],
        label_names: Sequence[str] = (),
    ) -> None:
        """Log a data set as input of the run.

        context: its role. source: a path, or a hub data set as `owner/name:config@revision`.
        """

    def log_model(self, folder: Path, step: int) -> None:
        """Log a folder that `mlflow.pyfunc.save_model` wrote as the model of the run, with its `test/` metrics."""

    def check_registration(self, name: str, label_names: Sequence[str]) -> None:
        """Raise SettingsError when the versions of registered model `name` have other labels."""

    def register(self, name: str) -> int | None:
        """Register the run's newest model as a version of `name`; return its number, None if the server is away."""
        return None

    def flush(self, seconds: float) -> bool:
        """Wait until the server has everything; False when it has taken nothing for `seconds`."""
        return True

    def next_step(self, prefix: str) -> int:
        """Return the step after the last one of the metrics `prefix…` that a resumed run has logged; 0 without any."""
        return 0


class NullTracker(Tracker):
    """Records nothing: for all processes but the first, and for tests."""


class MlflowTracker(Tracker):
    """A run on an MLflow server. Each call is in the event log when it returns; a thread uploads it.

    Raises TrackingError when the run folder cannot be written, for example because the disk is full.
    """

    def __init__(self, run_id: str, log: EventLog, backend: MlflowBackend, page: str) -> None:
        super().__init__(run_id, log.folder)
        self.page = page
        self._log = log
        self._backend = backend
        self._uploader = BackgroundUploader(log, backend)
        self._checked_names: set[str] = set()
        self._logged = _logged_points(log, run_id)

    @property
    def refusal(self) -> str:
        """Which right is missing for events that the server refused, and what to do; empty when none is."""
        if self._uploader.refusal is None:
            return ""
        reason, advice = self._uploader.refusal
        return (
            f"The server refused {self._uploader.rejected} events ({reason}). {advice} "
            f"Then run: {sync_command(self.folder)}"
        )

    def log_metrics(self, metrics: Mapping[str, SupportsFloat], step: int) -> None:
        """Log values at `step`, except those that the process before a resume has logged at this step.

        A repeated step has the same scores; only measured times differ, and a series has one value at each step.
        """
        values = {name: float(value) for name, value in metrics.items()}
        for name in values.keys() - self._checked_names:
            artifacts.check_metric_name(name)
            self._checked_names.add(name)
        values = {name: value for name, value in values.items() if (name, int(step)) not in self._logged}
        if values:
            self._append("metrics", {"metrics": values, "step": int(step)})

    def log_evaluation(self, model_id: str, dataset: tuple[str, str], metrics: Mapping[str, SupportsFloat]) -> None:
        """Log metrics of a logged model on a data set; MLflow's page of the model shows them too."""
        for name in metrics:
            artifacts.check_metric_name(name)
        of = {"model_id": model_id, "dataset": list(dataset)} if model_id else {}
        if model_id:
            self._append("model_input", {"model_id": model_id})
        values = {name: float(value) for name, value in metrics.items()}
        self._append("metrics", {"metrics": values, "step": 0, **of})

    def log_params(self, parameters: Mapping[str, object]) -> None:
        """Log settings as `cfg.<name>`, in one call."""
        texts = {f"{artifacts.PARAMETER_PREFIX}{name}": _text(value) for name, value in parameters.items()}
        self._append("params", {"params": texts})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags of the run, in one call."""
        self._append("tags", {"tags": {name: _text(value) for name, value in tags.items()}})

    def log_artifact(self, path: str) -> None:
        """Upload a file or the files of a folder. Raises TrackingError when it does not exist."""
        source = self.folder / path
        if not source.exists():
            raise TrackingError(f"Cannot log artifact {path}: run folder {self.folder} has no such file.")
        files = sorted(source.rglob("*")) if source.is_dir() else [source]
        for file in files:
            if file.is_file():
                self._append("artifact", {"path": file.relative_to(self.folder).as_posix()})

    def store_artifact(self, path: str) -> None:
        """Upload a small file now, to see before a training that its artifacts can be stored."""
        with readable_errors(self._backend):
            run = self._backend.run(self.run_id)
        check_artifact_store(self._backend.client, run, self.folder / path)

    def log_artifacts(self) -> None:
        """Upload those of `artifacts.UPLOADED` that exist in the folder."""
        for name in artifacts.UPLOADED:
            if (self.folder / name).exists():
                self.log_artifact(name)

    def log_dataset(
        self,
        name: str,
        digest: str,
        context: str,
        source: str,
        profile: Mapping[str, object],
        label_names: Sequence[str] = (),
    ) -> None:
        """Log a data set as input. MLflow shows 32 characters of the digest; the profile contains all of it."""
        facts = {"name": name, "digest": digest, "context": context, "source": redact(source)}
        self._append("dataset", {**facts, "profile": dict(profile), "labels": list(label_names)})

    def log_model(self, folder: Path, step: int) -> None:
        """Log a saved model. The same files logged twice in one run, as after a resume, are one model."""
        model, home = folder.resolve(), self.folder.resolve()
        # Relative, because a run folder may be moved before `sync`.
        path = model.relative_to(home) if model.is_relative_to(home) else model
        self._append("model", {"folder": str(path), "step": int(step)})

    def check_registration(self, name: str, label_names: Sequence[str]) -> None:
        """Compare with the newest version. Raises TrackingError without an answer, or without the right to register."""
        with readable_errors(self._backend):
            check_registry_right(self._backend, name)
            self._backend.check_labels(name, label_names)

    def register(self, name: str) -> int | None:
        """Register the run's newest model as a version of `name`, once per model."""
        self._append("register", {"name": name})
        if not self.flush(_REGISTER_SECONDS) or self._uploader.refusal:
            return None
        try:
            return self._backend.model_version(self.run_id, name)
        except Exception as error:
            _log.warning("Cannot read the new version of %s (%s).", name, short_reason(error))
            return None

    def flush(self, seconds: float) -> bool:
        """Wait until the server has everything; False when it has taken nothing for `seconds`."""
        return self._uploader.flush(seconds, upload_seconds=_LIMITS[1])

    def next_step(self, prefix: str) -> int:
        """Return the step after the last one of the metrics `prefix…` that a resumed run has logged; 0 without any."""
        return 1 + max((step for name, step in self._logged if name.startswith(prefix)), default=-1)

    def close(self, status: str, project_run: str | None) -> None:
        """Log the status of the run, and of the project run that started it, and deliver what can be delivered.

        What is left stays in the folder, with a warning that names the command to deliver it: the training itself
        is complete, so this is no error.
        """
        for run_id in filter(None, (self.run_id, project_run)):
            self._log.append(run_id, "status", {"status": status})
        seconds, upload_seconds = _KILLED_LIMITS if status == "KILLED" else _LIMITS
        if not self._deliver_rest(seconds, upload_seconds) and (
            self._uploader.is_uploading or _leaves_server_in_reach(self._uploader.error)
        ):
            self._set_status_directly(status, None)

    def close_without_log(self, status: str, reason: str) -> None:
        """Deliver the events of a folder that cannot be written, then send the status without the event log."""
        self._deliver_rest(*_LIMITS)
        self._set_status_directly(status, reason)

    def _set_status_directly(self, status: str, reason: str | None) -> None:
        try:
            if reason is not None:
                self._backend.client.set_tag(self.run_id, artifacts.TAG_ERROR, reason)
            self._backend.client.set_terminated(self.run_id, status)
        except Exception as error:
            _log.error("Cannot set status %s of run %s (%s).", status, self.run_id, short_reason(error))

    def _deliver_rest(self, seconds: float, upload_seconds: float) -> bool:
        """End the uploader after these limits of its `flush`; return whether all events are settled."""
        delivered = False
        try:
            delivered = self._uploader.flush(seconds, upload_seconds)
        finally:
            is_stopped = self._uploader.stop()
            self._warn_of_rest(delivered)
            if is_stopped:  # a thread that waits for a silent server may still write its offset
                self._log.close()
        return delivered

    def _warn_of_rest(self, delivered: bool) -> None:
        command = sync_command(self.folder)
        if self._uploader.rejected and not self.refusal:  # else the end of the run reports it
            _log.warning(
                "The tracking server refused %d events of run %s; %s has them with the reasons. Correct the cause, "
                "then run: %s",
                self._uploader.rejected,
                self.run_id,
                self.folder / REJECTED,
                command,
            )
        if not delivered:
            _log.warning(
                "The tracking server does not have all events of run %s (%s). Nothing is lost; later, run: %s",
                self.run_id,
                short_reason(self._uploader.error or TimeoutError("no answer in time")),
                command,
            )

    def _append(self, kind: str, content: Mapping[str, object]) -> None:
        self._log.append(self.run_id, kind, content)


def _leaves_server_in_reach(error: BaseException | None) -> bool:
    """Return whether the server may take a status: the log cannot be read, or the server itself answered an error."""
    from mlflow.exceptions import RestException

    return isinstance(error, TrackingError | RestException)


def _logged_points(log: EventLog, run_id: str) -> set[tuple[str, int]]:
    """Return name and step of the metrics in a log."""
    points: set[tuple[str, int]] = set()
    for event in log.events():
        metrics, step = event.content.get("metrics"), event.content.get("step")
        if event.run_id == run_id and isinstance(metrics, dict) and isinstance(step, int):
            points.update((name, step) for name in metrics)
    return points


def _text(value: object) -> str:
    """Return a value as on the command line (true, false, none), without passwords in addresses."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return redact(str(value))
