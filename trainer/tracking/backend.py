"""A tracking server as the spool sees it: one method per kind of operation, each safe to repeat."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.core import artifacts
from trainer.tracking.event_log import Entry
from trainer.tracking.registration import describe

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

__all__ = ["UPLOADS", "Store", "UnusableEntryError", "folder_digest", "is_refusal"]


UPLOADS = frozenset({"artifact", "model"})
"""Kinds that may rightly take minutes."""

_DIGEST_CHARACTERS = 32  # MLflow keeps at most 36 of a data set's digest


class UnusableEntryError(Exception):
    """An operation whose file or model is gone: sending it again cannot help."""


def is_refusal(error: Exception) -> bool:
    """Whether the same operation would fail again however often it is sent."""
    import requests
    from mlflow.exceptions import MlflowException

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in {400, 413, 415, 422}
    if isinstance(error, MlflowException):
        return error.error_code in {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE"}
    return isinstance(error, UnusableEntryError)


class Store:
    """One tracking server. `apply` sends operations; sending any of them twice leaves what sending it once leaves."""

    def __init__(self, client: "MlflowClient", uri: str) -> None:
        self.client = client
        self.uri = uri
        self._senders: dict[str, Callable[[Path, Entry], None]] = {
            "params": self._send_params,
            "tags": self._send_tags,
            "artifact": self._send_artifact,
            "dataset": self._send_dataset,
            "model": self._send_model,
            "register": self._send_register,
            "status": self._send_status,
            "open": lambda _folder, _entry: None,
        }

    def apply(self, folder: Path, batch: Sequence[Entry]) -> None:
        """Send `batch`: metrics of one run in a single call, or exactly one entry of another kind."""
        if batch[0].kind == "metrics":
            self._send_metrics(batch)
        else:
            self._senders[batch[0].kind](folder, batch[0])

    def run(self, run_id: str) -> "Run":
        """The run as the server has it now."""
        return self.client.get_run(run_id)

    def model_version(self, run_id: str, name: str) -> int | None:
        """First version of registered model `name` that holds the newest model of the run; None when there is none."""
        models = self._models(self.run(run_id))
        if not models:
            return None
        found = self.client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
        return min((int(version.version) for version in found if version.source == _source(models[-1])), default=None)

    def _send_metrics(self, batch: Sequence[Entry]) -> None:
        from mlflow.entities import Metric

        points = [
            Metric(name, value, entry.time, _integer(entry, "step"))
            for entry in batch
            for name, value in _mapping(entry, "metrics").items()
        ]
        self.client.log_batch(batch[0].run_id, metrics=points)

    def _send_params(self, _: Path, entry: Entry) -> None:
        from mlflow.entities import Param, RunTag

        # MLflow never changes a parameter. A resumed run may differ in some, so the new text becomes a tag.
        known = self.run(entry.run_id).data.params
        wanted = _mapping(entry, "params")
        fresh = [Param(name, text) for name, text in wanted.items() if name not in known]
        changed = [RunTag(name, text) for name, text in wanted.items() if known.get(name, text) != text]
        self.client.log_batch(entry.run_id, params=fresh, tags=changed)

    def _send_tags(self, _: Path, entry: Entry) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(name, text) for name, text in _mapping(entry, "tags").items()]
        self.client.log_batch(entry.run_id, tags=tags)

    def _send_artifact(self, folder: Path, entry: Entry) -> None:
        path = Path(_text(entry, "path"))
        if not (folder / path).is_file():
            raise UnusableEntryError(f"{folder / path} was removed before it could be uploaded")
        parent = path.parent.as_posix()
        self.client.log_artifact(entry.run_id, str(folder / path), None if parent == "." else parent)

    def _send_dataset(self, _: Path, entry: Entry) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        kind, place = _dataset_source(_text(entry, "source"))
        dataset = Dataset(
            name=_text(entry, "name"),
            digest=_text(entry, "digest")[:_DIGEST_CHARACTERS],
            source_type=kind,
            source=json.dumps(place),
            profile=json.dumps({"digest": _text(entry, "digest"), **_mapping(entry, "profile")}),
        )
        context = InputTag(MLFLOW_DATASET_CONTEXT, _text(entry, "context"))
        self.client.log_inputs(entry.run_id, [DatasetInput(dataset, [context])])

    def _send_model(self, run_folder: Path, entry: Entry) -> None:
        # What mlflow.pyfunc.log_model does, for a folder that mlflow.pyfunc.save_model wrote earlier.
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        folder = run_folder / _text(entry, "folder")
        if not (folder / "MLmodel").is_file():
            raise UnusableEntryError(f"{folder} must be a saved MLflow model, but got a folder without MLmodel")
        run = self.run(entry.run_id)
        model = self._find_or_create_model(run, folder_digest(folder))
        linked = run.outputs.model_outputs if run.outputs else []
        if all(output.model_id != model.model_id for output in linked):
            output = LoggedModelOutput(model.model_id, step=_integer(entry, "step"))
            self.client.log_outputs(entry.run_id, [output])
        self._attach_test_metrics(run, model.model_id)
        if model.status != LoggedModelStatus.READY:
            self._upload_model(folder, run.info.run_id, model)
            self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)

    def _find_or_create_model(self, run: "Run", digest: str) -> "LoggedModel":
        for model in self._models(run):
            if model.tags.get(artifacts.TAG_MODEL_DIGEST) == digest:
                return model
        return self.client.create_logged_model(
            run.info.experiment_id,
            name=artifacts.MODEL,
            source_run_id=run.info.run_id,
            tags={artifacts.TAG_MODEL_DIGEST: digest},
            params=run.data.params,
        )

    def _models(self, run: "Run") -> list["LoggedModel"]:
        """Models of the run, oldest first."""
        found = self.client.search_logged_models(
            [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
        )
        return sorted(found, key=lambda model: model.creation_timestamp)

    def _attach_test_metrics(self, run: "Run", model_id: str) -> None:
        from mlflow.entities import Metric

        prefix = artifacts.metric("test", "")
        points = [
            Metric(point.key, point.value, point.timestamp, point.step, model_id=model_id)
            for point in run.data.to_proto().metrics
            if point.key.startswith(prefix)
        ]
        self.client.log_batch(run.info.run_id, metrics=points)

    def _upload_model(self, folder: Path, run_id: str, model: "LoggedModel") -> None:
        from mlflow.models import Model

        for cache in folder.rglob("__pycache__"):
            shutil.rmtree(cache)
        self.client.log_model_artifacts(model.model_id, str(folder))
        description = Model.load(str(folder))
        description.run_id = run_id
        description.model_id = description.model_uuid = model.model_id
        description.artifact_path = model.artifact_location
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "MLmodel"
            description.save(str(path))
            self.client.log_model_artifact(model.model_id, str(path))

    def register(self, run_id: str, name: str, card: Path) -> int:
        """Version of registered model `name` that holds the newest model of the run, made when there is none yet.

        card: the run's model card, which describes a new version; it may be missing. Raises UnusableEntryError when the
        run has no model.
        """
        found = self.model_version(run_id, name)
        if found is not None:
            return found
        models = self._models(self.run(run_id))
        if not models:
            raise UnusableEntryError(f"run {run_id} must have a model to register, but has none")
        self._create_registered_model(name)
        made = self.client.create_model_version(
            name,
            _source(models[-1]),
            run_id=run_id,
            description=describe(card.read_text(encoding="utf-8"), card.name) if card.is_file() else None,
            model_id=models[-1].model_id,
            await_creation_for=60,
        )
        # Two processes may register the same run at the same time: the first of their versions is the one.
        return self.model_version(run_id, name) or int(made.version)

    def _send_register(self, folder: Path, entry: Entry) -> None:
        self.register(entry.run_id, _text(entry, "name"), folder / artifacts.MODEL_CARD)

    def _create_registered_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _send_status(self, _: Path, entry: Entry) -> None:
        self.client.set_terminated(entry.run_id, _text(entry, "status"), end_time=entry.time)


def _source(model: "LoggedModel") -> str:
    return f"models:/{model.model_id}"


def folder_digest(folder: Path) -> str:
    """sha256 of the names and bytes of a saved model, without MLmodel, which holds the time of saving."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "MLmodel" and "__pycache__" not in path.parts:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def _dataset_source(source: str) -> tuple[str, dict[str, str]]:
    """MLflow's kind and JSON for a folder or file, or for `hub/id@revision`."""
    path, at, revision = source.rpartition("@")
    if at and not Path(source).exists():
        return "hugging_face", {"path": path, "revision": revision}
    return "local", {"uri": source}


def _mapping(entry: Entry, key: str) -> dict[str, Any]:
    value = entry.content[key]
    if not isinstance(value, dict):
        raise TypeError(f"operation {entry.id} must hold an object under {key!r}, but got {value=}.")
    return value


def _text(entry: Entry, key: str) -> str:
    return str(entry.content[key])


def _integer(entry: Entry, key: str) -> int:
    return int(str(entry.content[key]))
