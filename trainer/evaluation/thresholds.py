"""Decision thresholds: the policies that choose them, and predictions made with them.

A label is predicted when `probability >= threshold`. thresholds: (k,). The exact search is in `threshold_search`,
unbiased estimates and the choice of a policy are in `cross_validation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.core.errors import DataError, SettingsError
from trainer.evaluation.arrays import Array, BoolArray, FloatArray, LabelledScores
from trainer.evaluation.metrics import LabelRow, confusion_counts
from trainer.evaluation.threshold_search import (
    ThresholdCandidates,
    best_global_threshold,
    best_thresholds_per_label,
)

__all__ = [
    "FIXED_THRESHOLD",
    "POLICIES",
    "SWEEP_GRID",
    "FittedThresholds",
    "Policy",
    "predict",
    "shrunk_thresholds",
    "threshold_sweep",
]

FIXED_THRESHOLD = 0.5
SWEEP_GRID = tuple(step / 100 for step in range(1, 100))


@dataclass(frozen=True)
class FittedThresholds:
    """What the policies choose from, fitted on some examples once for all policies and strengths."""

    per_label: FloatArray
    """Best threshold of each label, (k,)."""
    global_threshold: float
    """Best threshold for all labels together."""
    num_positives: FloatArray
    """Positives of each label, (k,)."""

    @classmethod
    def of(cls, candidates: ThresholdCandidates) -> FittedThresholds:
        """Search the best thresholds among the candidates."""
        by_label = candidates.by_label
        num_positives = by_label.positives.sum(axis=1).astype(np.float64)
        return cls(best_thresholds_per_label(by_label), best_global_threshold(candidates), num_positives)

    def choose(self, policy: str, strength: float) -> FloatArray:
        """Return the thresholds (k,) of one of POLICIES; `strength` matters only where the policy uses it."""
        if policy not in POLICIES:
            raise SettingsError(f"`policy` must be one of {', '.join(POLICIES)}, got {policy}.")
        return POLICIES[policy].thresholds(self, strength)


@dataclass(frozen=True)
class Policy:
    """A way to choose thresholds: a function of fitted thresholds and strength that returns (k,)."""

    thresholds: Callable[[FittedThresholds, float], FloatArray]
    uses_strength: bool = False
    """Whether the shrinkage strength is chosen by cross-fitting, which nests the policy's estimate."""


def shrunk_thresholds(per_label: Array, shared: float, num_positives: Array, strength: float) -> FloatArray:
    """Return thresholds (k,) between each label's own and the global one, nearer to it the fewer its positives.

    logit(result) = (num_positives * logit(per_label) + strength * logit(shared)) / (num_positives + strength).
    `strength` counts in positives: a label with as many lies halfway; 0 keeps `per_label`, infinity gives `shared`.
    In logits, because a temperature only scales them: recalibrated scores shrink to the same decisions, and a
    threshold of 0.02 against 0.2 is a matter of ratios, not of differences.
    Raises SettingsError for a strength below 0 or NaN.
    """
    if not strength >= 0.0:  # also true for NaN
        raise SettingsError(f"`strength` must be at least 0, got {strength}. 0 switches shrinkage off.")
    own = np.asarray(per_label, dtype=np.float64)
    if strength == 0.0:  # the weight of a label without positives would be 0/0
        return own.copy()
    weight = np.asarray(num_positives, dtype=np.float64) / (np.asarray(num_positives) + strength)
    mixed = weight * _logit(own) + (1.0 - weight) * _logit(np.full_like(own, shared))
    return np.where(weight > 0.0, 1.0 / (1.0 + np.exp(-mixed)), shared)  # exactly `shared`, not through its logit


POLICIES: Mapping[str, Policy] = {
    "fixed": Policy(lambda fitted, _: np.full(len(fitted.per_label), FIXED_THRESHOLD)),
    "global": Policy(lambda fitted, _: np.full(len(fitted.per_label), fitted.global_threshold)),
    "per_label_shrunk": Policy(
        lambda fitted, strength: shrunk_thresholds(
            fitted.per_label, fitted.global_threshold, fitted.num_positives, strength
        ),
        uses_strength=True,
    ),
    "per_label": Policy(lambda fitted, _: fitted.per_label),
}
"""From the simplest to the most flexible; where scores do not separate policies, the earlier one is chosen."""


def predict(probabilities: Array, thresholds: Array) -> BoolArray:
    """Return `probabilities >= thresholds` (n, k), compared in float64 as when the thresholds were fitted.

    Raises DataError unless there is one finite threshold for each label.
    """
    probabilities, thresholds = np.asarray(probabilities, np.float64), np.asarray(thresholds, np.float64)
    if thresholds.shape != probabilities.shape[-1:] or not np.isfinite(thresholds).all():
        raise DataError(
            f"`thresholds` must be one finite number for each of {probabilities.shape[-1]} labels, "
            f"got {thresholds.tolist()}."
        )
    return probabilities >= thresholds


def threshold_sweep(scores: LabelledScores, grid: Sequence[float] = SWEEP_GRID) -> list[LabelRow]:
    """Return rows of label, threshold, precision, recall, f1: every label at every threshold of the grid.

    Labels in their order, thresholds in the grid's. 0/0 is 0; labels without an observed cell have no rows.
    """
    counts = [confusion_counts(scores, scores.probabilities >= threshold) for threshold in grid]
    curves = [(threshold, step.precision, step.recall, step.f1) for threshold, step in zip(grid, counts, strict=True)]
    return [
        {"label": name, "threshold": threshold, "precision": float(p[j]), "recall": float(r[j]), "f1": float(f[j])}
        for j, name in enumerate(scores.label_names)
        if scores.observed[:, j].any()
        for threshold, p, r, f in curves
    ]


def _logit(probabilities: FloatArray) -> FloatArray:
    margin = np.finfo(np.float64).epsneg  # 1 - epsneg is the largest float below 1
    clipped = np.clip(probabilities, margin, 1.0 - margin)
    return np.log(clipped) - np.log1p(-clipped)
