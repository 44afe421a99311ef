"""Scores texts with a saved model: predict, and engines that bring their own files, call `open_scorer`."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from registry.scoring.config import LabelChoice
from registry.store.aliases import read_aliases
from registry.store.versions import list_versions, model_names
from trainer.core.errors import ModelError, RegistryError, SettingsError, nearest, shorten
from trainer.core.input_files import is_file
from trainer.core.redaction import redact
from trainer.core.scratch import scratch_folder
from trainer.serving import runtime
from trainer.tracking.artifact_store import install_advice
from trainer.tracking.connection import connect
from trainer.tracking.refusals import check_registry_right, explain_refusal
from trainer.tracking.registration import folder_digest

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from trainer.serving.scoring import TextScorer

__all__ = ["Prediction", "Scorer", "check_code", "download_model", "open_scorer", "resolve"]

_ADDRESS = re.compile(r"models:/+(?P<name>[^/@]+)(?:@(?P<alias>[^/]+)|/(?P<version>[^/]+))")
_FORMS = "models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN_ID/model or a folder with a saved model"
_MAX_CAUSE, _NAMES_SHOWN = 200, 5
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
    """A loaded model, and how labels are chosen."""

    def __init__(
        self, model: "TextScorer", choice: LabelChoice, *, source: str, digest: str, warning: str = ""
    ) -> None:
        self.label_names, self.source, self.digest, self.warning = model.label_names, source, digest, warning
        self._model, self._top_k = model, choice.top_k or 0
        policy = model.thresholds[choice.policy or model.default_policy]
        self._thresholds = policy if choice.threshold is None else np.full_like(policy, choice.threshold)

    def score(self, texts: Sequence[str], on_progress: Callable[[int], None] = lambda done: None) -> Prediction:
        """Return the prediction for the texts, in their order. on_progress: called with the number that are done."""
        labels: list[list[str]] = []
        probabilities = [np.zeros((0, len(self.label_names)))]  # all rows of a chunk may be rejected
        for start in range(0, len(texts), _TEXTS_PER_CALL):
            part = self._model.probabilities(list(texts[start : start + _TEXTS_PER_CALL]))
            labels += self._model.labels(part, self._thresholds, top_k=self._top_k)
            probabilities.append(part)
            on_progress(len(labels))
        return Prediction(label_names=self.label_names, labels=labels, probabilities=np.concatenate(probabilities))


@contextmanager
def open_scorer(address: str, choice: LabelChoice) -> Iterator[Scorer]:
    """Give the model at an address: `models:/…`, `runs:/…` or a local folder. No code of the model runs.

    An alias is resolved once: the job keeps its version. The policy is checked before the model is loaded. Raises
    TrackingError when a server is needed and does not answer, RegistryError or ModelError when there is no such model
    or this project has not saved it, SettingsError when the model does not have the policy.
    """
    with scratch_folder() as scratch:
        if address.startswith(("http://", "https://")):  # MLflow would look for a tracking server's artifacts there
            raise ModelError(f"`model` must be {_FORMS}, got {shorten(redact(address))}.")
        if ":/" in address:
            source = _resolve_on_server(address)
            folder = download_model(source, scratch)
        else:
            source, folder = str(Path(address).resolve()), Path(address)
        warning = check_code(folder, source)
        model = _load(folder, source, choice)
        yield Scorer(model, choice, source=source, digest=folder_digest(folder), warning=warning)


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
            f"Registered model `{name}` does not have {shorten(address)}. Newest versions: "
            f"{', '.join(versions[-_NAMES_SHOWN:])}; aliases: {', '.join(aliases[:_NAMES_SHOWN]) or 'none'}."
        )
    return f"models:/{name}/{version}"


def _resolve_on_server(address: str) -> str:
    from mlflow.exceptions import MlflowException

    backend = connect()
    try:
        return resolve(backend.client, address)
    except RegistryError:
        if match := _ADDRESS.fullmatch(address):
            check_registry_right(backend, match["name"], reads=True)
        raise
    except MlflowException as error:
        if refusal := explain_refusal(error):
            raise RegistryError(f"Cannot read model {shorten(redact(address))} ({refusal[0]}). {refusal[1]}") from None
        raise RegistryError(f"Cannot look up model {address} in the registry: {redact(error.message)}") from error


def _versions(client: "MlflowClient", name: str) -> list[str]:
    found = list_versions(client, name)
    if not found:
        names = model_names(client)
        if name in names:
            raise RegistryError(
                f"Registered model `{name}` has no versions. Train with register=true, or promote a run."
            )
        raise RegistryError(
            f"No model `{name}` is registered on the tracking server.{nearest(name, names)} "
            f"Registered: {', '.join(names[:_NAMES_SHOWN]) or 'none'}. "
            "Register one: train with register=true, or promote a run."
        )
    return [str(version.version) for version in found]


def download_model(source: str, scratch: Path) -> Path:
    """Return the folder below `scratch` with the files of a model. Raises ModelError when they cannot be read."""
    import mlflow

    shown = shorten(redact(source))
    try:
        folder = Path(mlflow.artifacts.download_artifacts(source, dst_path=str(scratch)))
    except Exception as error:  # each kind of artifact store has its own errors
        if refusal := explain_refusal(error):
            raise ModelError(f"Cannot download model {shown} ({refusal[0]}). {refusal[1]}") from None
        cause = shorten(redact(str(error)), _MAX_CAUSE).rstrip(".")
        advice = f" {install_advice(source, error)}." if isinstance(error, ModuleNotFoundError) else ""
        raise ModelError(f"Cannot download model {shown}: {cause}.{advice}") from error
    if not is_file(folder / "MLmodel"):  # MLflow downloads nothing from a folder that is gone
        raise ModelError(
            f"Cannot find the files of model {shown} in the artifact store: they were moved or deleted, or it is no "
            "model. Restore them, or choose another version."
        )
    return folder


def _load(folder: Path, source: str, choice: LabelChoice) -> "TextScorer":
    from trainer.serving.scoring import TextScorer, read_serving  # loads torch

    artifacts = folder / "artifacts"
    try:
        policies = read_serving(artifacts).thresholds
        if choice.policy is not None and choice.policy not in policies:
            near = nearest(choice.policy, policies)
            raise SettingsError(f"`policy` must be one of {', '.join(policies)}, got {shorten(choice.policy)}.{near}")
        return TextScorer(artifacts)
    except ModelError as error:
        cause = shorten(
            redact(str(error).replace(f"{folder}/", "")), _MAX_CAUSE
        )  # paths in the model; its copy has a long name
        raise ModelError(f"Cannot load model {shorten(source)}: {cause}") from error


def check_code(folder: Path, source: str) -> str:
    """Return a warning about the model's code, empty for code of this project.

    Raises ModelError for a model of another kind, whose answers only its own loader can give.
    """
    if not is_file(folder / "MLmodel"):
        raise ModelError(f"`model` must be {_FORMS}, got {shorten(source)}, which has no MLmodel file.")
    code = runtime.read_code(folder)
    if code.is_known:
        return ""
    if code.loader == runtime.LOADER:
        return (
            f"The code in model {shorten(source)} (digest {code.digest[:12]}) is of no version known here. It does not "
            "run: this version scores the texts, and a server that runs the model's code may answer otherwise."
        )
    found = (
        f"its MLmodel names the loader {shorten(code.loader)}"
        if code.loader
        else "its MLmodel or serving.json is damaged"
    )
    raise ModelError(
        f"`model` must be one that this project saved, got {shorten(source)}: {found}. No code of a model "
        "runs here; if you trust it, use `mlflow models predict` or `mlflow models serve`."
    )
