"""Scores texts with a saved model: predict, and engines that bring their own files, call `open_scorer`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from registry.scoring.config import LabelChoice
from trainer.core.errors import ModelError, shorten
from trainer.core.redaction import redact
from trainer.core.scratch import scratch_folder
from trainer.serving.opening import FORMS, check_code, load_scorer
from trainer.tracking.model_address import download_model, resolve_on_server
from trainer.tracking.registration import folder_digest

if TYPE_CHECKING:
    from trainer.serving.scoring import TextScorer

__all__ = ["Prediction", "Scorer", "open_scorer"]

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
            raise ModelError(f"`model` must be {FORMS}, got {shorten(redact(address))}.")
        if ":/" in address:
            source = resolve_on_server(address)
            folder = download_model(source, scratch)
        else:
            source, folder = str(Path(address).resolve()), Path(address)
        warning = check_code(folder, source)
        model = load_scorer(folder, source, choice.policy)
        yield Scorer(model, choice, source=source, digest=folder_digest(folder), warning=warning)
