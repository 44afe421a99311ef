"""Writes logged events to an MLflow server. Writing an event twice leaves the same run as writing it once."""

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tenacity

from trainer.core import artifacts
from trainer.tracking.delivery_errors import PermanentDeliveryError, is_permanent_error
from trainer.tracking.event_log import Event
from trainer.tracking.registration import ModelWriter
from trainer.tracking.verification import DIGEST_CHARACTERS, find_missing

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["UPLOADS", "MlflowBackend", "dataset_source"]


UPLOADS = frozenset({"artifact", "model"})
"""Kinds of events that may take minutes."""

_HUB_SOURCE = re.compile(r"(?P<path>[\w.-]+/[\w.-]+)(:(?P<config_name>[\w.-]+))?@(?P<revision>[\w./-]+)")
_CREATION_KEY = "mlflow.emotions.creation_key"
"""Tag that tells the runs of one creation; MLflow's pages hide tags whose names begin with `mlflow.`."""
_CREATION_SECONDS = 60.0
"""A request that creates a run may arrive although its answer is lost; who gives up then leaves a run RUNNING."""


class MlflowBackend:
    """One tracking server."""

    def __init__(self, client: "MlflowClient", uri: str) -> None:
        self.client = client
        self.uri = uri
        self._models = ModelWriter(client)
        self._writers: dict[str, Callable[[Path, Event], None]] = {
            "params": self._write_params,
            "tags": self._write_tags,
            "artifact": self._write_artifact,
            "dataset": self._write_dataset,
            "model": self._write_model,
            "model_input": self._write_model_input,
            "register": self._write_registration,
            "status": self._write_status,
            "open": lambda _, event: self.set_running(event.run_id),
        }

    def send(self, folder: Path, batch: Sequence[Event]) -> None:
        """Write metrics of one run in a single call, or exactly one event of another kind. `folder`: the run folder."""
        kind = batch[0].kind
        if kind == "metrics":
            self._write_metrics(batch)
        elif kind in self._writers:
            self._writers[kind](folder, batch[0])
        else:
            raise PermanentDeliveryError(f"a line of the event log is no event of this version ({kind})")

    def find_missing(self, folder: Path, events: Sequence[Event]) -> list[Event]:
        """Return those events of one run whose content the server does not have. `folder`: the run folder."""
        return find_missing(self.client, folder, events)

    def run(self, run_id: str) -> "Run":
        """Return the run as the server has it now."""
        return self.client.get_run(run_id)

    def create_run(self, experiment_id: str, tags: Mapping[str, str], name: str | None = None) -> "Run":
        """Return a new run: exactly one, although its creation is repeated while the server fails."""
        key = uuid.uuid4().hex
        for attempt in _repeated():
            with attempt:
                # The request before may have arrived although its answer did not.
                if attempt.retry_state.attempt_number == 1 or not self._find_runs(experiment_id, key):
                    self.client.create_run(experiment_id, run_name=name, tags={**tags, _CREATION_KEY: key})
        for attempt in _repeated():
            with attempt:
                found = self._find_runs(experiment_id, key)
                if not found:
                    raise ConnectionError("the server answered success and has no new run")
        run, *copies = found
        for copy in copies:  # of requests that MLflow 3.17 itself has repeated
            self.client.delete_run(copy.info.run_id)
        return run

    def create_experiment(self, name: str, tags: dict[str, str]) -> str | None:
        """Return the id of a new experiment; None when there is one of this name."""
        from mlflow.exceptions import MlflowException

        for attempt in _repeated():
            with attempt:
                try:
                    return self.client.create_experiment(name, tags=tags)
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
        return None

    def _find_runs(self, experiment_id: str, key: str) -> "Sequence[Run]":
        return self.client.search_runs([experiment_id], f"tags.`{_CREATION_KEY}` = '{key}'")

    def set_running(self, run_id: str) -> None:
        """Give a run the status RUNNING and remove what describes the end of its earlier process."""
        tags = self.run(run_id).data.tags
        for tag in {artifacts.TAG_ERROR, artifacts.TAG_NOTE} & tags.keys():  # the description repeats the error
            self.client.delete_tag(run_id, tag)
        self.client.update_run(run_id, status="RUNNING")

    def model_version(self, run_id: str, name: str) -> int | None:
        """Return the first version of registered model `name` with the newest model of the run; None without one."""
        return self._models.version(self.run(run_id), name)

    def register(self, run_id: str, name: str, model_uri: str | None = None) -> int:
        """Return the version of registered model `name` with a model of the run, created if there is none.

        model_uri: None for the newest model.
        Raises PermanentDeliveryError when the run has no model.
        """
        return self._models.register(self.run(run_id), name, model_uri)

    def check_labels(self, name: str, label_names: Sequence[str]) -> None:
        """Raise SettingsError when the newest version of registered model `name` has other labels than these."""
        self._models.check_labels(name, label_names)

    def _write_metrics(self, batch: Sequence[Event]) -> None:
        from mlflow.entities import Metric

        points = [
            Metric(name, value, event.time, _integer(event, "step"), **_measured(event))
            for event in batch
            for name, value in _mapping(event, "metrics").items()
        ]
        self.client.log_batch(batch[0].run_id, metrics=points)

    def _write_params(self, _: Path, event: Event) -> None:
        from mlflow.entities import Param, RunTag

        # MLflow never changes a parameter. A resumed run may differ in some, so the new text becomes a tag.
        known = self.run(event.run_id).data.params
        wanted = _mapping(event, "params")
        fresh = [Param(name, text) for name, text in wanted.items() if name not in known]
        changed = [RunTag(name, text) for name, text in wanted.items() if known.get(name, text) != text]
        self.client.log_batch(event.run_id, params=fresh, tags=changed)

    def _write_tags(self, _: Path, event: Event) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(name, text) for name, text in _mapping(event, "tags").items()]
        self.client.log_batch(event.run_id, tags=tags)

    def _write_artifact(self, folder: Path, event: Event) -> None:
        path = Path(_text(event, "path"))
        if not (folder / path).is_file():
            raise PermanentDeliveryError(f"{folder / path} was removed before it could be uploaded")
        parent = path.parent.as_posix()
        self.client.log_artifact(event.run_id, str(folder / path), None if parent == "." else parent)

    def _write_dataset(self, _: Path, event: Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        kind, place = dataset_source(_text(event, "source"))
        dataset = Dataset(
            name=_text(event, "name"),
            digest=_text(event, "digest")[:DIGEST_CHARACTERS],
            source_type=kind,
            source=json.dumps(place),
            schema=_dataset_schema(event.content.get("labels")),
            profile=json.dumps({"digest": _text(event, "digest"), **_mapping(event, "profile")}),
        )
        context = InputTag(MLFLOW_DATASET_CONTEXT, _text(event, "context"))
        self.client.log_inputs(event.run_id, [DatasetInput(dataset, [context])])

    def _write_model(self, folder: Path, event: Event) -> None:
        self._models.write(self.run(event.run_id), folder / _text(event, "folder"), _integer(event, "step"))

    def _write_model_input(self, _: Path, event: Event) -> None:
        from mlflow.entities import LoggedModelInput

        inputs, model_id = self.run(event.run_id).inputs, _text(event, "model_id")
        if all(one.model_id != model_id for one in (inputs.model_inputs if inputs else [])):
            self.client.log_inputs(event.run_id, models=[LoggedModelInput(model_id)])

    def _write_registration(self, _: Path, event: Event) -> None:
        self.register(event.run_id, _text(event, "name"))

    def _write_status(self, _: Path, event: Event) -> None:
        status = _text(event, "status")
        if self.run(event.run_id).info.status != status:  # a second end would move the time of the first
            self.client.set_terminated(event.run_id, status, end_time=event.time)


def _repeated() -> tenacity.Retrying:
    """Return attempts at a request that MLflow 3.18 does not repeat: it creates something."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: not is_permanent_error(error)),
        stop=tenacity.stop_after_delay(_CREATION_SECONDS),
        wait=tenacity.wait_random_exponential(max=4),
        reraise=True,
    )


def dataset_source(source: str) -> tuple[str, dict[str, str]]:
    """Return MLflow's source type and fields for a folder, or for a hub data set `owner/name:config@revision`.

    `mlflow.data.get_source` on the recorded input loads the same data again.
    """
    hub = None if Path(source).exists() else _HUB_SOURCE.fullmatch(source)
    if hub is None:
        return "local", {"uri": source}
    return "hugging_face", {name: text for name, text in hub.groupdict().items() if text is not None}


def _dataset_schema(label_names: object) -> str | None:
    """Return the columns of a data set as MLflow's page shows them; None without labels, as in older event logs."""
    if not isinstance(label_names, list) or not label_names:
        return None
    columns = [("string", "text"), *(("double", str(name)) for name in label_names)]
    return json.dumps({"mlflow_colspec": [{"type": kind, "name": name, "required": True} for kind, name in columns]})


def _measured(event: Event) -> dict[str, Any]:
    """Return the fields of a metric that name the model and the data set it measures; none for others."""
    if "model_id" not in event.content:
        return {}
    dataset = event.content["dataset"]
    if not isinstance(dataset, list) or len(dataset) != 2:
        raise TypeError(f"event of kind {event.kind} must have name and digest under dataset, got {dataset}.")
    name, digest = map(str, dataset)
    digest = digest[:DIGEST_CHARACTERS]
    return {"model_id": _text(event, "model_id"), "dataset_name": name, "dataset_digest": digest}


def _mapping(event: Event, key: str) -> dict[str, Any]:
    value = event.content[key]
    if not isinstance(value, dict):
        raise TypeError(f"event of kind {event.kind} must have an object under {key}, got {value}.")
    return value


def _text(event: Event, key: str) -> str:
    return str(event.content[key])


def _integer(event: Event, key: str) -> int:
    return int(str(event.content[key]))
