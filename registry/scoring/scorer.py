"""The model of a batch job: an address made concrete, loaded once, asked for texts."""

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

from registry.store.aliases import aliases_of
from registry.store.search import versions_of
from trainer.core.environment import redact
from trainer.core.errors import ModelError, RegistryError, SettingsError
from trainer.core.settings import nearest
from trainer.tracking.backend import folder_digest
from trainer.tracking.connection import connect

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Answer", "Scorer", "open_scorer", "resolve"]

_ADDRESS = re.compile(r"models:/+(?P<name>[^/@]+)(?:@(?P<alias>[^/]+)|/(?P<version>[^/]+))")
_LABELS = "labels"
_TEXTS_PER_CALL = 1000


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model said about n texts."""

    label_names: tuple[str, ...]
    labels: list[list[str]]
    """Of each text, the most probable first."""
    probabilities: npt.NDArray[np.float64]
    """(n, k)"""


class Scorer:
    """A loaded model with its parameters."""

    def __init__(self, model: Any, source: str, digest: str, params: Mapping[str, Any]) -> None:
        self.source, self.digest = source, digest
        self.label_names = _label_names(model, source)
        self._model, self._params = model, dict(params)

    def check(self) -> None:
        """Raise SettingsError when the model refuses its parameters, before anything is scored."""
        from mlflow.exceptions import MlflowException

        try:
            self._model.predict([], params=self._params)
        except MlflowException as error:
            raise SettingsError(f"settings must be what the model takes, but got {error.message}") from error

    def score(self, texts: Sequence[str], report: Callable[[int], None] = lambda done: None) -> Answer:
        """What the model says about the texts; `report` is told now and then how many are done."""
        labels: list[list[str]] = []
        probabilities = [np.zeros((0, len(self.label_names)))]
        for start in range(0, len(texts), _TEXTS_PER_CALL):
            table = self._model.predict(list(texts[start : start + _TEXTS_PER_CALL]), params=self._params)
            labels += [list(names) for names in table[_LABELS]]
            probabilities.append(table[list(self.label_names)].to_numpy(dtype=np.float64))
            report(len(labels))
        return Answer(label_names=self.label_names, labels=labels, probabilities=np.concatenate(probabilities))


@contextmanager
def open_scorer(address: str, params: Mapping[str, Any]) -> Iterator[Scorer]:
    """The model at an address: `models:/…`, `runs:/…` or a local folder; nothing of it is unpickled.

    An alias is looked up here and not again: the job keeps its version. Raises TrackingError when a server is needed
    and does not answer, RegistryError or ModelError when there is no such model or it is of another kind.
    """
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    os.environ.pop("MLFLOW_RUN_ID", None)  # set by `mlflow run`; scoring is no part of a run
    with tempfile.TemporaryDirectory(prefix="emotions-model-") as scratch:
        if ":/" in address:
            source = _concrete(address)
            folder = _download(source, scratch)
        else:
            source, folder = str(Path(address).resolve()), Path(address)
        yield Scorer(_load(folder, address), source, folder_digest(folder), params)


def _concrete(address: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return resolve(connect().client, address)
    except MlflowException as error:
        raise RegistryError(
            f"registry must say what it has, but got model={address!r} ({redact(error.message)})."
        ) from error


def resolve(client: "MlflowClient", address: str) -> str:
    """`models:/NAME/VERSION` for an alias or `latest`; any other address as it is. RegistryError when it has none."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return address
    name, alias, version = match["name"], match["alias"], match["version"]
    versions = _versions(client, name)
    if alias:
        version = aliases_of(client, name).get(alias)
    elif version == "latest":
        version = max(versions, key=int, default=None)
    if version not in versions:
        aliases = [f"@{known} (version {number})" for known, number in aliases_of(client, name).items()]
        raise RegistryError(
            f"registered model {name!r} must have the version or alias that is asked for, but got model={address!r}. "
            f"Versions: {', '.join(versions) or 'none'}; aliases: {', '.join(aliases) or 'none'}."
        )
    return f"models:/{name}/{version}"


def _versions(client: "MlflowClient", name: str) -> list[str]:
    found = versions_of(client, name)
    if not found:
        names = [model.name for model in client.search_registered_models()]
        raise RegistryError(
            f"model must be registered on the tracking server, but got {name=}.{nearest(name, names)} "
            f"Registered there: {', '.join(names) or 'none'}."
        )
    return [str(version.version) for version in found]


def _download(source: str, scratch: str) -> Path:
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        return Path(mlflow.artifacts.download_artifacts(source, dst_path=scratch))
    except (MlflowException, OSError) as error:
        raise ModelError(
            f"model must be one that can be downloaded, but got model={source!r} ({redact(str(error))})."
        ) from error


def _load(folder: Path, address: str) -> Any:
    if not (folder / "MLmodel").is_file():
        raise ModelError(
            f"model must be models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN_ID/model or a folder with a saved "
            f"model, but got model={address!r}, where no MLmodel is."
        )
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(folder))


def _label_names(model: Any, source: str) -> tuple[str, ...]:
    signature = model.metadata.signature
    names = signature.outputs.input_names() if signature and signature.outputs else []
    if _LABELS not in names:
        raise ModelError(
            f"model must answer with probabilities and `{_LABELS}`, but got model={source!r} with outputs={names}. "
            "Take one that this project has trained."
        )
    return tuple(name for name in names if name != _LABELS)
