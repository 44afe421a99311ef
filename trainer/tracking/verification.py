"""Compares a run on the tracking server with its event log.

An answer of success proves nothing: a captive portal answers it to any upload, and a restored database lacks what came
after its backup.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from trainer.core import artifacts
from trainer.tracking.event_log import Event
from trainer.tracking.registration import ModelWriter

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["DIGEST_CHARACTERS", "find_missing"]

DIGEST_CHARACTERS = 32
"""Of a data set's digest; MLflow keeps at most 36."""


def find_missing(client: "MlflowClient", folder: Path, events: Sequence[Event]) -> list[Event]:
    """Return those events of one run, in their order, whose content the server does not have.

    Of parameters and tags the names are compared, not the texts: users edit tags in MLflow's page. Of artifacts the
    sizes are compared with the files in the run folder. An event that is none of this version is always missing.
    """
    stored = _StoredRun(client, folder, events)
    return [event for event in events if not stored.has(event)]


class _StoredRun:
    """A run as the server has it; read in parts, each once."""

    def __init__(self, client: "MlflowClient", folder: Path, events: Sequence[Event]) -> None:
        self._client = client
        self._folder = folder
        self._run = client.get_run(next(event.run_id for event in events if event.run_id))
        self._models = ModelWriter(client)
        self._reopened = max((event.end for event in events if event.kind == "open"), default=0)
        data: Any = self._run.data  # its `metrics` have no steps, and its `to_proto` no types
        self._latest = {point.key: (point.step, point.timestamp) for point in data.to_proto().metrics}
        self._logged = Counter(name for event in events for name in _mapping(event, "metrics"))
        self._points: dict[str, set[tuple[int, int]]] = {}
        self._sizes: dict[str, Mapping[str, int | None]] = {}

    def has(self, event: Event) -> bool:
        """Return whether the server has the content of an event."""
        checks: dict[str, Callable[[Event], bool]] = {
            "metrics": self._has_metrics,
            "params": lambda event: _mapping(event, "params").keys() <= self._run.data.params.keys() | self._tags(),
            "tags": lambda event: _mapping(event, "tags").keys() <= self._tags(event),
            "artifact": self._has_artifact,
            "dataset": self._has_dataset,
            "model": lambda _: self._models.is_ready(self._run),
            "model_input": self._has_model_input,
            "register": lambda event: self._models.version(self._run, str(event.content["name"])) is not None,
            "open": lambda _: True,
            "status": lambda _: True,  # a later one replaces it
        }
        try:
            return event.kind in checks and checks[event.kind](event)
        except (KeyError, TypeError, ValueError):  # an event that lacks a field, which the server never got
            return False

    def _tags(self, event: Event | None = None) -> set[str]:
        # What describes the end of an earlier process is removed when the run is opened again.
        removed = {artifacts.TAG_ERROR, artifacts.TAG_NOTE} if event and event.end <= self._reopened else set()
        return self._run.data.tags.keys() | removed

    def _has_metrics(self, event: Event) -> bool:
        point = (int(str(event.content["step"])), event.time)
        return all(self._has_point(name, point) for name in _mapping(event, "metrics"))

    def _has_point(self, name: str, point: tuple[int, int]) -> bool:
        if self._latest.get(name) == point:
            return True
        if name not in self._latest or self._logged[name] == 1:
            return False
        if name not in self._points:
            history = self._client.get_metric_history(self._run.info.run_id, name)
            self._points[name] = {(metric.step, metric.timestamp) for metric in history}
        return point in self._points[name]

    def _has_artifact(self, event: Event) -> bool:
        path = PurePosixPath(str(event.content["path"]))
        parent = "" if str(path.parent) == "." else str(path.parent)
        if parent not in self._sizes:
            files = self._client.list_artifacts(self._run.info.run_id, parent or None)
            self._sizes[parent] = {file.path: file.file_size for file in files if not file.is_dir}
        if str(path) not in self._sizes[parent]:
            return False
        size, local = self._sizes[parent][str(path)], self._folder / path
        return size is None or not local.is_file() or size == local.stat().st_size

    def _has_dataset(self, event: Event) -> bool:
        wanted = (event.content["name"], str(event.content["digest"])[:DIGEST_CHARACTERS])
        inputs = self._run.inputs.dataset_inputs if self._run.inputs else []
        return any((one.dataset.name, one.dataset.digest) == wanted for one in inputs)

    def _has_model_input(self, event: Event) -> bool:
        inputs = self._run.inputs.model_inputs if self._run.inputs else []
        return any(one.model_id == str(event.content["model_id"]) for one in inputs)


def _mapping(event: Event, key: str) -> Mapping[str, Any]:
    value = event.content.get(key)
    return value if isinstance(value, dict) else {}
