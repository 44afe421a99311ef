"""Writes saved models to an MLflow server and registers them as versions."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote as quote_path

from trainer.core import artifacts
from trainer.core.errors import SettingsError
from trainer.core.input_files import read_json
from trainer.core.scratch import scratch_folder
from trainer.core.settings import quote
from trainer.tracking import page
from trainer.tracking.delivery_errors import PermanentDeliveryError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

__all__ = ["ModelWriter", "check_no_prompt", "folder_digest"]

_MODEL_NOTE = (
    "Text classifiers with many rare labels. `{name}@champion` is the version in use, `@challenger` the one that was "
    "refused last, `@previous` the champion before. The description of a version has its scores and links to its "
    "report and model card; [{name}-ledger](#/models/{path}-ledger) has every decision.\n\n"
    '`mlflow.pyfunc.load_model("models:/{name}@champion").predict(["thank you so much!"])`'
)
_NAMES_SHOWN = 3
_VERSIONS_TAG = "mlflow.modelVersions"


class ModelWriter:
    """The logged models of runs on one server, and their versions in its registry."""

    def __init__(self, client: "MlflowClient") -> None:
        self._client = client

    def write(self, run: "Run", folder: Path, step: int) -> None:
        """Do what `mlflow.pyfunc.log_model` does, for a folder that `mlflow.pyfunc.save_model` wrote earlier."""
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        if not (folder / "MLmodel").is_file():
            raise PermanentDeliveryError(f"{folder} was removed or is no saved MLflow model: it has no file MLmodel")
        model = self._find_or_create(run, folder_digest(folder))
        linked = run.outputs.model_outputs if run.outputs else []
        if all(output.model_id != model.model_id for output in linked):
            self._client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=step)])
        self._attach_test_metrics(run, model.model_id)
        if model.status != LoggedModelStatus.READY:
            self._upload(folder, run.info.run_id, model)
            self._check_files(folder, model.model_id)
            # Last, so that the upload of a killed process is repeated.
            self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)

    def is_ready(self, run: "Run") -> bool:
        """Return whether the server has a complete model of the run."""
        from mlflow.entities import LoggedModelStatus

        return any(model.status == LoggedModelStatus.READY for model in self._models(run))

    def version(self, run: "Run", name: str) -> int | None:
        """Return the first version of registered model `name` with the newest model of the run; None without one."""
        models = self._models(run)
        return self._first_version(models[-1], name) if models else None

    def register(self, run: "Run", name: str, model_uri: str | None = None) -> int:
        """Return the version of registered model `name` with this model of the run, created if there is none.

        model_uri: None for the newest model.
        """
        models = [model for model in self._models(run) if model_uri in (None, _uri(model))]
        if not models:
            raise PermanentDeliveryError(f"run {run.info.run_id} has no model to register")
        version = self._first_version(models[-1], name) or self._create_version(run, models[-1], name)
        self._tag_as_registered(models[-1], name, version)
        return version

    def check_labels(self, name: str, label_names: Sequence[str]) -> None:
        """Raise SettingsError when the newest version of registered model `name` has other labels than these.

        Nothing is known of versions that no run of this project made. A name that is a prompt's is an error too.
        """
        check_no_prompt(self._client, name)
        found = self._client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"], max_results=1)
        known = self._labels(found[0].run_id) if found and found[0].run_id else None
        if known is None or set(known) == set(label_names):
            return
        other = ", ".join(map(quote, sorted(set(known) ^ set(label_names))[:_NAMES_SHOWN]))
        raise SettingsError(
            f"`registered_model` must have versions with the same labels, got {name}: version {found[0].version} has "
            f"{len(known)} labels, this data set {len(label_names)} (not in both: {other}). "
            "Give another name: registered_model=NAME."
        )

    def _labels(self, run_id: str) -> list[str] | None:
        """Return the labels of the model of a run; None where it left no file with them, or is gone."""
        from mlflow.exceptions import MlflowException

        try:
            if all(file.path != artifacts.LABELS for file in self._client.list_artifacts(run_id)):
                return None
            with scratch_folder() as scratch:
                path = self._client.download_artifacts(run_id, artifacts.LABELS, str(scratch))
                labels: list[str] = read_json(Path(path))
                return labels
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # the run was deleted for good
                raise
            return None

    def _find_or_create(self, run: "Run", digest: str) -> "LoggedModel":
        if found := self._models(run, digest):
            return found[0]
        made = self._client.create_logged_model(
            run.info.experiment_id,
            name=artifacts.MODEL,
            source_run_id=run.info.run_id,
            tags={artifacts.TAG_MODEL_DIGEST: digest, artifacts.TAG_NOTE: _model_note(run)},
            params=run.data.params,
        )
        first = self._models(run, digest)[0]
        if first.model_id != made.model_id:  # MLflow 3.17 repeats a request whose answer was lost
            self._client.delete_logged_model(made.model_id)
        return first

    def _models(self, run: "Run", digest: str | None = None) -> list["LoggedModel"]:
        """Return the models of the run, oldest first. digest: only those with these files."""
        models = self._client.search_logged_models(
            [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
        )
        wanted = [model for model in models if digest in (None, model.tags.get(artifacts.TAG_MODEL_DIGEST))]
        return sorted(wanted, key=lambda model: (model.creation_timestamp, model.model_id))

    def _attach_test_metrics(self, run: "Run", model_id: str) -> None:
        from mlflow.entities import Metric

        prefix = artifacts.metric("test", "")
        data = _test_data(run)
        points = [
            Metric(point.key, point.value, point.timestamp, point.step, model_id=model_id, **data)
            for point in run.data.to_proto().metrics  # `run.data.metrics` has neither times nor steps
            if point.key.startswith(prefix)
        ]
        self._client.log_batch(run.info.run_id, metrics=points)

    def _upload(self, folder: Path, run_id: str, model: "LoggedModel") -> None:
        from mlflow.models import Model

        for cache in folder.rglob("__pycache__"):  # Python writes it whenever the model's code is loaded
            shutil.rmtree(cache)
        self._client.log_model_artifacts(model.model_id, str(folder))
        # `log_model` writes the ids of run and model into MLmodel; a folder saved before them lacks them.
        description = Model.load(str(folder))
        description.run_id = run_id
        description.model_id = description.model_uuid = model.model_id
        description.artifact_path = model.artifact_location
        with scratch_folder() as scratch:
            path = scratch / "MLmodel"
            description.save(str(path))
            self._client.log_model_artifact(model.model_id, str(path))

    def _check_files(self, folder: Path, model_id: str) -> None:
        """Raise ConnectionError when a file did not arrive, although each upload was answered with success."""
        sizes = self._sizes(model_id, None)
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "MLmodel"):
            name = path.relative_to(folder).as_posix()
            if sizes.get(name, -1) not in (None, path.stat().st_size):  # None: a store that tells no sizes
                raise ConnectionError(f"file {name} of the model is not in the artifact store after its upload")

    def _sizes(self, model_id: str, parent: str | None) -> dict[str, int | None]:
        sizes: dict[str, int | None] = {}
        for file in self._client.list_logged_model_artifacts(model_id, parent):
            sizes |= self._sizes(model_id, file.path) if file.is_dir else {file.path: file.file_size}
        return sizes

    def _first_version(self, model: "LoggedModel", name: str) -> int | None:
        found = self._client.search_model_versions(f"name = '{name}' and run_id = '{model.source_run_id}'")
        # By source: over REST, versions of `models:/m-…` have no model_id (MLflow 3.17).
        return min((int(version.version) for version in found if version.source == _uri(model)), default=None)

    def _create_version(self, run: "Run", model: "LoggedModel", name: str) -> int:
        self._create_registered_model(name)
        made = self._client.create_model_version(
            name,
            _uri(model),
            run_id=run.info.run_id,
            description=_version_note(run),
            model_id=model.model_id,
            await_creation_for=60,
        )
        first = self._first_version(model, name) or int(made.version)
        if first != int(made.version):  # another process was faster, or MLflow 3.17 has repeated the request
            self._client.delete_model_version(name, str(made.version))
        return first

    def _tag_as_registered(self, model: "LoggedModel", name: str, version: int) -> None:
        # MLflow's page of a logged model reads its versions from this tag and says "Not registered" without it.
        versions = json.loads(model.tags.get(_VERSIONS_TAG, "[]"))
        entry = {"name": name, "version": str(version)}
        if entry not in versions:
            self._client.set_logged_model_tags(model.model_id, {_VERSIONS_TAG: json.dumps([*versions, entry])})

    def _create_registered_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name, description=_MODEL_NOTE.format(name=name, path=quote_path(name)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def check_no_prompt(client: "MlflowClient", name: str) -> None:
    """Raise SettingsError when a prompt has this name: MLflow then creates no registered model."""
    if client.get_prompt(name) is not None:
        raise SettingsError(f"`registered_model` must be free or a registered model, got {name}, which is a prompt.")


def folder_digest(folder: Path) -> str:
    """Return the sha256 of the names and bytes of a saved model without MLmodel, which contains the time of saving."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "MLmodel" and "__pycache__" not in path.parts:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())  # \0 is in no file name
    return digest.hexdigest()


def _test_data(run: "Run") -> dict[str, str]:
    """Return the fields of a metric that name the test split among the inputs of a run."""
    for item in run.inputs.dataset_inputs if run.inputs else []:
        if any(tag.value == "test" for tag in item.tags):
            return {"dataset_name": item.dataset.name, "dataset_digest": item.dataset.digest}
    return {}


def _model_note(run: "Run") -> str:
    """Return the description of a logged model; its page has the scores."""
    report, card = (page.address(run, name) for name in (artifacts.REPORT, artifacts.MODEL_CARD_PAGE))
    return f"Model of run [{run.info.run_name}]({page.address(run)}): [report]({report}), [model card]({card})."


def _version_note(run: "Run") -> str:
    """Return the description of a version: that of its run, then a link to it."""
    # The table of versions shows its first words, without rendering links.
    note = run.data.tags.get(artifacts.TAG_NOTE, "")
    return f"{note}\n\nModel of run [{run.info.run_name}]({page.address(run)}).".strip()


def _uri(model: "LoggedModel") -> str:
    return f"models:/{model.model_id}"
