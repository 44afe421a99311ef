"""How far a training has come, what it returns, and the callback that shows it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.core import artifacts
from trainer.model.classifier import EmotionClassifier

__all__ = ["FitResult", "ProgressCallback", "TrainingProgress"]


class ProgressCallback(Protocol):
    """Receives the progress of a training."""

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Receive the training metrics of a step, every `log_steps` steps."""

    def on_evaluation(self, row: Mapping[str, float], *, best: bool) -> None:
        """Receive step, epoch and dev metrics of an evaluation. best: its weights are the best so far."""


@dataclass
class TrainingProgress:
    """Counters and history of a training; every checkpoint contains them."""

    step: int = 0
    evaluations: int = 0
    best_step: int = 0
    best_score: float | None = None
    evaluations_since_best: int = 0
    stopped: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    samples: int | None = 0
    """Examples of all steps so far; None where an older version began the run."""
    seconds: float | None = 0.0
    """Time of the training loop, evaluations too, without what a resumed run repeated; None as above."""
    joules: dict[str, float] | None = None
    """Device to energy, for the devices whose counter could always be read; None before the first reading."""

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "TrainingProgress":
        """Return the progress of a checkpoint. What it does not count stays unknown, because the rest is no total."""
        return cls(**{"samples": None, "seconds": None, "joules": {}, **state})

    def costs(self) -> dict[str, float]:
        """Return the metrics of what the training took; an unknown one is absent."""
        named = {
            artifacts.TRAIN_STEPS: self.step,
            artifacts.TRAIN_SAMPLES: self.samples,
            artifacts.TRAIN_SECONDS: self.seconds,
            **{artifacts.train_joules(device): joules for device, joules in (self.joules or {}).items()},
        }
        norms = [row[artifacts.TRAIN_GRAD_NORM] for row in self.history if artifacts.TRAIN_GRAD_NORM in row]
        if norms:
            named |= {artifacts.TRAIN_MEAN_GRAD_NORM: fmean(norms), artifacts.TRAIN_MAX_GRAD_NORM: max(norms)}
        return {name: float(value) for name, value in named.items() if value is not None}

    def add_score(self, score: float, *, patience: int) -> bool:
        """Count an evaluation at the current step and return True when its score is the best so far.

        Sets `stopped` after `patience` evaluations in a row without improvement; 0 never stops.
        """
        self.evaluations += 1
        is_best = self.best_score is None or score > self.best_score
        if is_best:
            self.best_score, self.best_step, self.evaluations_since_best = score, self.step, 0
        else:
            self.evaluations_since_best += 1
        self.stopped = 0 < patience <= self.evaluations_since_best
        return is_best


@dataclass(frozen=True)
class FitResult:
    """The model with the weights kept, and the points of all curves by step."""

    model: EmotionClassifier
    dev_logits: NDArray[np.float32] | None
    """(n, k); None when dev was not evaluated."""
    history: list[dict[str, float]]
    best_step: int
    steps: int
    schedule_steps: int
    """Steps of the whole schedule, of which `steps` were taken."""
    costs: dict[str, float]
    """Metrics of what the training took."""
