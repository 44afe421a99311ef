"""What the training tells about its run: the protocol, a tracker that records nothing, and the one for MLflow."""

import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, SupportsFloat

from trainer.core import artifacts
from trainer.core.environment import redact
from trainer.core.errors import TrackingError
from trainer.tracking.backend import Store
from trainer.tracking.event_log import EventLog
from trainer.tracking.uploader import BackgroundUploader

__all__ = ["MlflowTracker", "NullTracker", "Tracker"]

_FLUSH_SECONDS = 30.0
_KILLED_FLUSH_SECONDS = 10.0  # schedulers follow SIGTERM with SIGKILL after about 30 seconds

_log = logging.getLogger(__name__)


class Tracker(Protocol):
    """Where a run is recorded. No method waits for a server, except `register` and `flush`, whose limits are stated."""

    @property
    def run_id(self) -> str:
        """Id of the run."""

    @property
    def folder(self) -> Path:
        """Local folder of the run: what is to become an artifact is written here first."""

    def log_metrics(self, metrics: Mapping[str, SupportsFloat], step: int) -> None:
        """Record values at `step`, stamped with the present time. NaN is recorded as such."""

    def log_params(self, parameters: Mapping[str, object]) -> None:
        """Record settings as `cfg.<name>`. Where a resumed run had another text, the new one becomes a tag."""

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags of the run; a later text replaces an earlier one."""

    def log_artifact(self, path: str) -> None:
        """Upload a file, or all files of a folder, named relative to `folder`."""

    def log_artifacts(self) -> None:
        """Upload whatever of `artifacts.UPLOADED` the folder holds."""

    def log_dataset(self, name: str, digest: str, context: str, source: str, profile: Mapping[str, object]) -> None:
        """Record a data set as input of the run. `context`: its role. `source`: a path or `hub/id@revision`."""

    def log_model(self, folder: Path, step: int) -> None:
        """Record a folder written by `mlflow.pyfunc.save_model` as the model of the run, with its `test/` metrics."""

    def register(self, name: str) -> int | None:
        """Make the run's newest model a version of `name`; its number, or None while the server is away."""

    def flush(self, seconds: float) -> bool:
        """Wait until the server has everything; False when it has taken nothing for `seconds`."""


class NullTracker:
    """Records nothing: for processes other than the first, and for tests."""

    def __init__(self, run_id: str, folder: Path) -> None:
        self.run_id = run_id
        self.folder = folder

    def log_metrics(self, metrics: Mapping[str, SupportsFloat], step: int) -> None:
        """Do nothing."""

    def log_params(self, parameters: Mapping[str, object]) -> None:
        """Do nothing."""

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Do nothing."""

    def log_artifact(self, path: str) -> None:
        """Do nothing."""

    def log_artifacts(self) -> None:
        """Do nothing."""

    def log_dataset(self, name: str, digest: str, context: str, source: str, profile: Mapping[str, object]) -> None:
        """Do nothing."""

    def log_model(self, folder: Path, step: int) -> None:
        """Do nothing."""

    def register(self, name: str) -> int | None:
        """None: nothing is registered."""

    def flush(self, seconds: float) -> bool:
        """True: nothing is owed."""
        return True


class MlflowTracker:
    """A run on an MLflow server. Every operation is on disk when its call returns; a thread delivers it.

    Raises TrackingError when the run folder cannot be written, say because the disk is full.
    """

    def __init__(self, run_id: str, spool: EventLog, store: Store) -> None:
        self.run_id = run_id
        self.folder = spool.folder
        self._spool = spool
        self._store = store
        self._courier = BackgroundUploader(spool, store)
        self._known_names: set[str] = set()

    def log_metrics(self, metrics: Mapping[str, SupportsFloat], step: int) -> None:
        """Record values at `step`. Raises ValueError for a name that MLflow would refuse."""
        values = {name: float(value) for name, value in metrics.items()}
        if not self._known_names.issuperset(values):
            for name in values:
                artifacts.check_metric_name(name)
            self._known_names.update(values)
        self._add("metrics", {"metrics": values, "step": int(step)})

    def log_params(self, parameters: Mapping[str, object]) -> None:
        """Record settings as `cfg.<name>`, in one call."""
        texts = {f"{artifacts.PARAMETER_PREFIX}{name}": _text(value) for name, value in parameters.items()}
        self._add("params", {"params": texts})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags of the run, in one call."""
        self._add("tags", {"tags": {name: _text(value) for name, value in tags.items()}})

    def log_artifact(self, path: str) -> None:
        """Upload a file or a folder's files. Raises TrackingError when there is none of that name."""
        whole = self.folder / path
        if not whole.exists():
            raise TrackingError(f"artifact must exist in the run folder, but got {path=}, folder={str(self.folder)!r}.")
        files = sorted(whole.rglob("*")) if whole.is_dir() else [whole]
        for file in files:
            if file.is_file():
                self._add("artifact", {"path": file.relative_to(self.folder).as_posix()})

    def log_artifacts(self) -> None:
        """Upload whatever of `artifacts.UPLOADED` the folder holds."""
        for name in artifacts.UPLOADED:
            if (self.folder / name).exists():
                self.log_artifact(name)

    def log_dataset(self, name: str, digest: str, context: str, source: str, profile: Mapping[str, object]) -> None:
        """Record a data set as input. MLflow shows 32 characters of the digest; the profile holds all of it."""
        facts = {"name": name, "digest": digest, "context": context, "source": redact(source)}
        self._add("dataset", {**facts, "profile": dict(profile)})

    def log_model(self, folder: Path, step: int) -> None:
        """Record a saved model. The same files twice in one run, as after a resume, are one model."""
        whole, home = folder.resolve(), self.folder.resolve()
        path = (
            whole.relative_to(home) if whole.is_relative_to(home) else whole
        )  # a run folder may be moved, then synced
        self._add("model", {"folder": str(path), "step": int(step)})

    def register(self, name: str) -> int | None:
        """Make the run's newest model a version of `name`, once per model; waits while the server takes things."""
        self._add("register", {"name": name})
        if not self.flush(_FLUSH_SECONDS):
            return None
        try:
            return self._store.model_version(self.run_id, name)
        except Exception as error:  # registered, but the server went away before it could name the number
            _log.warning("cannot read the new version of %s: %s", name, redact(str(error)))
            return None

    def flush(self, seconds: float) -> bool:
        """Wait until the server has everything; False when it has taken nothing for `seconds`."""
        return self._courier.flush(seconds)

    def close(self, status: str, project_run: str | None) -> None:
        """Record how the run ended, and the project run that started it, and deliver what can be delivered.

        What is left stays in the folder, with a warning that names the command to deliver it: the training itself
        is complete, so this is no error.
        """
        for run_id in filter(None, (self.run_id, project_run)):
            self._spool.append(run_id, "status", {"status": status})
        self._deliver_rest(_KILLED_FLUSH_SECONDS if status == "KILLED" else _FLUSH_SECONDS)

    def close_unspooled(self, status: str, reason: str) -> None:
        """Record the end when the folder takes nothing more: deliver what it holds, then tell the server directly."""
        self._deliver_rest(_FLUSH_SECONDS)
        try:
            self._store.client.set_tag(self.run_id, artifacts.TAG_ERROR, reason)
            self._store.client.set_terminated(self.run_id, status)
        except Exception as error:
            _log.error("run %s could not be marked %s: %s", self.run_id, status, redact(str(error)))

    def _deliver_rest(self, seconds: float) -> None:
        delivered = False
        try:
            delivered = self.flush(seconds)
        finally:
            stopped = self._courier.stop()
            if not delivered:
                command = shlex.join(["python", "-m", "trainer.tracking.run", "sync", str(self.folder)])
                _log.warning("run %s is not wholly on the server yet; nothing is lost. Later: %s", self.run_id, command)
            if stopped:  # a thread that hangs on a silent server may still write its progress
                self._spool.close()

    def _add(self, kind: str, content: Mapping[str, object]) -> None:
        self._spool.append(self.run_id, kind, content)


def _text(value: object) -> str:
    """As on the command line: true, false, none; without passwords in addresses."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return redact(str(value))
