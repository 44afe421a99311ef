"""Cuts that turn probabilities into labels: exact best F1 per label, one shared cut, and shrinking between them.

A label is predicted when `probability >= threshold`. Shapes: probabilities, labels, observed (n, k); thresholds (k,).
The search for exact cuts is in `cuts`, honest estimates and the choice of a policy in `crossfit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.core.errors import SettingsError
from trainer.evaluation.arrays import (
    Array,
    BoolArray,
    FloatArray,
    check_cells,
    check_names,
    check_thresholds,
    rank_cells,
)
from trainer.evaluation.metrics import LabelRow, count_cells
from trainer.evaluation.threshold_search import SortedCells, label_cuts, shared_cut

__all__ = [
    "FIXED_THRESHOLD",
    "POLICIES",
    "SWEEP_GRID",
    "Cuts",
    "best_f1_thresholds",
    "fit_cuts",
    "fit_policy",
    "global_threshold",
    "predict",
    "shrunk_thresholds",
    "threshold_sweep",
]

POLICIES = ("fixed", "global", "per_label", "per_label_shrunk")
"""From the simplest to the most flexible; ties between policies go to the earlier one."""
FIXED_THRESHOLD = 0.5
SWEEP_GRID = tuple(step / 100 for step in range(1, 100))


@dataclass(frozen=True)
class Cuts:
    """Everything a policy needs from the rows it is fitted on: cuts per label (k,), the shared cut, positives (k,)."""

    per_label: FloatArray
    shared: float
    num_positives: FloatArray

    def thresholds(self, policy: str, strength: float) -> FloatArray:
        """Return the thresholds (k,) of one of POLICIES; `strength` matters to per_label_shrunk only."""
        if policy == "fixed":
            return np.full(len(self.per_label), FIXED_THRESHOLD)
        if policy == "global":
            return np.full(len(self.per_label), self.shared)
        if policy == "per_label":
            return self.per_label
        if policy == "per_label_shrunk":
            return shrunk_thresholds(self.per_label, self.shared, self.num_positives, strength)
        raise SettingsError(f"policy must be one of {POLICIES}, but got {policy=}. Correct the name.")


def best_f1_thresholds(probabilities: Array, labels: Array, observed: Array | None = None) -> FloatArray:
    """Return for each label the threshold (k,) with the best F1 on these rows, exact over all possible cuts.

    A cut lies midway between neighbouring distinct scores, with 0 below the lowest and 1 above the highest. Of equal F1
    the highest threshold wins, so the order of rows never matters. A label without a positive has F1 0 at every cut:
    the same rule puts its threshold above every score seen, which predicts none of these rows. A label without an
    observed row gets 0.5.
    Raises DataError when shapes differ or values lie outside [0, 1].
    Source: Lipton et al. 2014, https://arxiv.org/abs/1402.1892.
    """
    return label_cuts(rank_cells(check_cells(probabilities, labels, observed)))


def global_threshold(probabilities: Array, labels: Array, observed: Array | None = None) -> float:
    """Return the one threshold, shared by all labels, with the best macro-F1 on these rows.

    Exact over all n * k cuts; the midpoints and the rule for equal scores are those of best_f1_thresholds.
    """
    return shared_cut(SortedCells.of(check_cells(probabilities, labels, observed)))


def shrunk_thresholds(per_label: Array, shared: float, num_positives: Array, strength: float) -> FloatArray:
    """Return thresholds (k,) drawn from each label's own cut toward the shared one, the more the fewer its positives.

    logit(result) = (num_positives * logit(per_label) + strength * logit(shared)) / (num_positives + strength).
    `strength` counts in positives: a label with as many sits halfway; 0 keeps `per_label`, infinity gives `shared`.
    In logits, because a temperature only scales them: recalibrated scores shrink to the same decisions, and a rare
    label's cut of 0.02 against 0.2 is a matter of ratios, not of differences.
    Raises SettingsError for a strength below 0 or NaN.
    """
    if not strength >= 0.0:
        raise SettingsError(f"strength must be at least 0, but got {strength=}. 0 switches shrinking off.")
    own = np.asarray(per_label, dtype=np.float64)
    if strength == 0.0:
        return own.copy()
    share = np.asarray(num_positives, dtype=np.float64) / (np.asarray(num_positives) + strength)
    mixed = share * _logit(own) + (1.0 - share) * _logit(np.full_like(own, shared))
    return np.where(share > 0.0, 1.0 / (1.0 + np.exp(-mixed)), shared)


def fit_cuts(cells: SortedCells) -> Cuts:
    """Fit what all policies share."""
    num_positives = cells.ranking.positives.sum(axis=1).astype(np.float64)
    return Cuts(label_cuts(cells.ranking), shared_cut(cells), num_positives)


def fit_policy(
    policy: str, probabilities: Array, labels: Array, observed: Array | None = None, *, strength: float
) -> FloatArray:
    """Return the thresholds (k,) of one of POLICIES, fitted on these rows; `strength` as in shrunk_thresholds."""
    return fit_cuts(SortedCells.of(check_cells(probabilities, labels, observed))).thresholds(policy, strength)


def predict(probabilities: Array, thresholds: Array) -> BoolArray:
    """Return `probabilities >= thresholds` (n, k), compared in float64 as when the thresholds were fitted."""
    probabilities = np.asarray(probabilities, dtype=np.float64)
    return probabilities >= check_thresholds(thresholds, probabilities.shape[-1])


def threshold_sweep(
    label_names: tuple[str, ...],
    probabilities: Array,
    labels: Array,
    observed: Array | None = None,
    grid: Sequence[float] = SWEEP_GRID,
) -> list[LabelRow]:
    """Return rows of label, threshold, precision, recall, f1: every label at every threshold of the grid.

    Labels in their order, thresholds in the grid's. 0/0 is 0; labels without an observed cell have no rows.
    """
    cells = check_cells(probabilities, labels, observed)
    check_names(label_names, cells.labels.shape[1])
    steps = [count_cells(cells.scores >= cut, cells.positives, cells.observed) for cut in grid]
    curves = [(cut, step.precision, step.recall, step.f1) for cut, step in zip(grid, steps, strict=True)]
    return [
        {"label": name, "threshold": cut, "precision": float(p[j]), "recall": float(r[j]), "f1": float(f[j])}
        for j, name in enumerate(label_names)
        if cells.observed[:, j].any()
        for cut, p, r, f in curves
    ]


def _logit(probabilities: FloatArray) -> FloatArray:
    margin = np.finfo(np.float64).epsneg
    clipped = np.clip(probabilities, margin, 1.0 - margin)
    return np.log(clipped) - np.log1p(-clipped)
