"""Scores texts with a saved model: predict, and engines that bring their own files, call `open_scorer`."""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from registry.store.aliases import read_aliases
from registry.store.versions import list_versions
from trainer.core.errors import ModelError, RegistryError, SettingsError, nearest
from trainer.core.redaction import redact
from trainer.tracking.connection import connect
from trainer.tracking.registration import folder_digest

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import Model

__all__ = ["Prediction", "Scorer", "check_params", "open_scorer", "resolve"]

_ADDRESS = re.compile(r"models:/+(?P<name>[^/@]+)(?:@(?P<alias>[^/]+)|/(?P<version>[^/]+))")
_LABELS = "labels"
_TEXTS_PER_CALL = 1000  # the progress bar moves after each call


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Probabilities and labels of n texts."""

    label_names: tuple[str, ...]
    labels: list[list[str]]
    """The labels of each text, the most probable first."""
    probabilities: npt.NDArray[np.float64]
    """(n, k)"""


class Scorer:
    """A loaded model with the parameters of its predictions."""

    def __init__(
        self, model: Any, label_names: tuple[str, ...], params: Mapping[str, Any], *, source: str, digest: str
    ) -> None:
        self.label_names, self.source, self.digest = label_names, source, digest
        self._model, self._params = model, dict(params)

    def score(self, texts: Sequence[str], on_progress: Callable[[int], None] = lambda done: None) -> Prediction:
        """Return the prediction for the texts, in their order.

        on_progress: called with the number of texts that are done. Raises ModelError when the model refuses a text.
        """
        from mlflow.exceptions import MlflowException

        labels: list[list[str]] = []
        probabilities = [np.zeros((0, len(self.label_names)))]  # all rows of a chunk may be rejected
        for start in range(0, len(texts), _TEXTS_PER_CALL):
            try:
                table = self._model.predict(list(texts[start : start + _TEXTS_PER_CALL]), params=self._params)
            except MlflowException as error:
                raise ModelError(f"Model {self.source} cannot score the texts: {error.message}") from error
            labels += [list(names) for names in table[_LABELS]]
            probabilities.append(table[list(self.label_names)].to_numpy(dtype=np.float64))
            on_progress(len(labels))
        return Prediction(label_names=self.label_names, labels=labels, probabilities=np.concatenate(probabilities))


@contextmanager
def open_scorer(address: str, params: Mapping[str, Any]) -> Iterator[Scorer]:
    """Give the model at an address: `models:/…`, `runs:/…` or a local folder. Loading it runs its code.

    An alias is resolved once: the job keeps its version. The parameters are checked before the model is loaded. Raises
    TrackingError when a server is needed and does not answer, RegistryError or ModelError when there is no such model
    or it is of another kind, SettingsError when the model does not have the parameters.
    """
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"  # MLflow allows it by default; our models need none
    with tempfile.TemporaryDirectory(prefix="emotions-model-") as scratch:
        if ":/" in address:
            source = _resolve_on_server(address)
            folder = _download(source, scratch)
        else:
            source, folder = str(Path(address).resolve()), Path(address)
        description = _describe(folder, source)
        check_params(params, description, folder)
        label_names = _label_names(description, source)
        yield Scorer(_load(folder, source), label_names, params, source=source, digest=folder_digest(folder))


def resolve(client: "MlflowClient", address: str) -> str:
    """Return `models:/NAME/VERSION` for an alias or `latest`, any other address unchanged.

    Raises RegistryError when the registered model, version or alias does not exist.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return address
    name, alias, version = match["name"], match["alias"], match["version"]
    versions = _versions(client, name)
    if alias:
        version = str(read_aliases(client, name).get(alias))
    elif version == "latest":
        version = max(versions, key=int, default=None)
    if version not in versions:
        aliases = [f"@{alias} (version {number})" for alias, number in read_aliases(client, name).items()]
        raise RegistryError(
            f"Registered model `{name}` does not have {address}. "
            f"Versions: {', '.join(versions) or 'none'}; aliases: {', '.join(aliases) or 'none'}."
        )
    return f"models:/{name}/{version}"


def check_params(params: Mapping[str, Any], description: "Model", folder: Path) -> None:
    """Raise SettingsError for a parameter or policy that the saved model in `folder` does not have."""
    schema = description.signature.params if description.signature else None
    names = [param.name for param in schema.params] if schema else []
    missing = [name for name in params if name not in names]
    if missing:
        raise SettingsError(f"`{missing[0]}` is no parameter of the model. It has: {', '.join(names) or 'none'}.")
    artifacts = (description.flavors or {}).get("python_function", {}).get("artifacts") or {}
    if "policy" not in params or "serving" not in artifacts:
        return
    policies = json.loads((folder / artifacts["serving"]["path"]).read_text(encoding="utf-8"))["thresholds"]
    if params["policy"] not in policies:
        near = nearest(params["policy"], policies)
        raise SettingsError(f"`policy` must be one of {', '.join(policies)}, got {params['policy']}.{near}")


def _resolve_on_server(address: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return resolve(connect().client, address)
    except MlflowException as error:
        raise RegistryError(f"Cannot look up model {address} in the registry: {redact(error.message)}") from error


def _versions(client: "MlflowClient", name: str) -> list[str]:
    found = list_versions(client, name)
    if not found:
        names = [model.name for model in client.search_registered_models()]
        raise RegistryError(
            f"No model `{name}` is registered on the tracking server.{nearest(name, names)} "
            f"Registered: {', '.join(names) or 'none'}."
        )
    return [str(version.version) for version in found]


def _download(source: str, scratch: str) -> Path:
    import mlflow

    try:
        return Path(mlflow.artifacts.download_artifacts(source, dst_path=scratch))
    except Exception as error:  # each kind of artifact store has its own errors
        raise ModelError(f"Cannot download model {redact(source)}: {redact(str(error))}") from error


def _describe(folder: Path, source: str) -> "Model":
    from mlflow.models import Model

    if not (folder / "MLmodel").is_file():
        raise ModelError(
            f"`model` must be models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN_ID/model or a folder with a saved "
            f"model, got {source}, which has no MLmodel file."
        )
    try:
        return Model.load(str(folder))
    except Exception as error:  # MLmodel is a file that anything may have written
        raise ModelError(f"Cannot read the MLmodel file of model {source}: {error}") from error


def _load(folder: Path, source: str) -> Any:
    import mlflow.pyfunc

    try:
        return mlflow.pyfunc.load_model(str(folder))
    except Exception as error:  # the code of the model may raise anything
        raise ModelError(f"Cannot load model {source}: {type(error).__name__}: {error}") from error


def _label_names(description: "Model", source: str) -> tuple[str, ...]:
    signature = description.signature
    names = signature.outputs.input_names() if signature and signature.outputs else []
    if _LABELS not in names:
        raise ModelError(
            f"`model` must return probabilities and `{_LABELS}`, got {source} with {', '.join(names) or 'no outputs'}. "
            "Use a model that this project has trained."
        )
    return tuple(name for name in names if name != _LABELS)
