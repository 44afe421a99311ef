"""Honest scores for threshold policies: every row is predicted with thresholds fitted on other rows."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from trainer.core.errors import DataError, SettingsError
from trainer.evaluation.arrays import Array, BoolArray, Cells, FloatArray, IntArray, check_cells, check_labels
from trainer.evaluation.metrics import Confusion, count_cells
from trainer.evaluation.threshold_search import SortedCells
from trainer.evaluation.thresholds import POLICIES, Cuts, fit_cuts

__all__ = ["STRENGTHS", "PolicyChoice", "assign_folds", "choose_policy", "crossfit_predictions"]

STRENGTHS = (5.0, 10.0, 20.0, 50.0, 100.0)
_SAME_SCORE = 1e-12


@dataclass(frozen=True)
class PolicyChoice:
    """The policy that cross-validation favours, and what it saw."""

    policy: str
    """One of POLICIES: the highest score, ties going to the simpler policy."""
    strength: float
    """Best shrinking strength for per_label_shrunk, whether or not that policy was chosen."""
    scores: dict[str, float]
    """Policy → cross-fitted macro-F1, mean over seeds."""
    optimism: dict[str, float]
    """Policy → macro-F1 on the rows it was fitted on, minus `scores`."""


def assign_folds(labels: Array, observed: Array | None = None, *, folds: int = 5, seed: int) -> IntArray:
    """Return the fold of each row (n,), 0 ≤ fold < folds, the same for the same seed and rows.

    Rows are grouped by their rarest label, shuffled within the group and dealt out in turn: fold sizes differ by at
    most one, and so do the rows of each group, which spreads the positives of rare labels evenly.
    Raises SettingsError for fewer than 2 folds, DataError for fewer rows than folds.
    """
    labels, mask = check_labels(labels, observed)
    return _deal((labels >= 0.5) & mask, folds, seed)


def crossfit_predictions(
    probabilities: Array,
    labels: Array,
    observed: Array | None,
    policy: str,
    *,
    fold_of_row: Array,
    strength: float,
) -> BoolArray:
    """Return predictions (n, k), each row's with thresholds fitted on the rows of all other folds.

    fold_of_row: (n,), from assign_folds. `strength` as in thresholds.shrunk_thresholds.
    Raises DataError unless fold_of_row names at least two folds, one per row.
    """
    cells = check_cells(probabilities, labels, observed)
    fold_of_row = np.asarray(fold_of_row)
    if fold_of_row.shape != cells.scores.shape[:1] or len(np.unique(fold_of_row)) < 2:
        raise DataError(
            f"fold_of_row must name at least two folds for {len(cells.scores)} rows, but got {fold_of_row.shape=}, "
            f"{np.unique(fold_of_row).tolist()=}. "
            "Make it with assign_folds from the same rows."
        )
    split = _Crossfit(cells, SortedCells.of(cells), fold_of_row)
    predictions = np.zeros(cells.scores.shape, dtype=bool)
    for fold in np.unique(fold_of_row):
        rows = fold_of_row == fold
        predictions[rows] = cells.scores[rows] >= split.thresholds(int(fold), policy, strength)
    return predictions


def choose_policy(
    probabilities: Array, labels: Array, observed: Array | None = None, *, seeds: Sequence[int], folds: int = 5
) -> PolicyChoice:
    """Return the policy with the best cross-fitted macro-F1, averaged over one split into folds per seed.

    The score of per_label_shrunk is nested: for each fold, its strength is chosen by cross-fitting inside the other
    folds. The strength that goes with the answer is the best of STRENGTHS by plain cross-fitting over all rows; of
    equals the strongest. Deterministic. Needs at least 3 folds and one seed (SettingsError) and as many rows with an
    observed cell as folds (DataError).
    """
    if folds < 3 or not seeds:
        raise SettingsError(f"folds must be at least 3 and seeds not empty, but got {folds=}, {seeds=}. 5 and 5 do.")
    cells = check_cells(probabilities, labels, observed)
    cells = cells.take(np.any(cells.observed, axis=1))  # so that every fold has something to score
    ranked = SortedCells.of(cells)
    splits = [_Crossfit(cells, ranked, _deal(cells.positives, folds, seed)) for seed in seeds]
    by_strength = np.mean([[split.macro_f1("per_label_shrunk", s) for s in STRENGTHS] for split in splits], axis=0)
    strength = _strongest_best(by_strength)
    scores = {policy: float(np.mean([s.macro_f1(policy, strength) for s in splits])) for policy in POLICIES[:-1]}
    scores["per_label_shrunk"] = float(np.mean([split.nested_macro_f1() for split in splits]))
    whole = fit_cuts(ranked)
    fitted = {policy: _count(cells, whole.thresholds(policy, strength)).macro_f1 for policy in POLICIES}
    optimism = {policy: fitted[policy] - scores[policy] for policy in POLICIES}
    best = max(scores.values())
    chosen = next(policy for policy in POLICIES if scores[policy] >= best - _SAME_SCORE)
    return PolicyChoice(chosen, strength, scores, optimism)


class _Crossfit:
    """One split into folds, with cuts fitted without one or two of them, each once for all policies and strengths."""

    def __init__(self, cells: Cells, ranked: SortedCells, fold_of_row: Array) -> None:
        self._ranked = ranked
        self._fold_of_row = fold_of_row
        self._parts = {int(fold): cells.take(fold_of_row == fold) for fold in np.unique(fold_of_row)}
        self._cuts: dict[frozenset[int], Cuts] = {}

    def thresholds(self, fold: int, policy: str, strength: float, left_out: int | None = None) -> FloatArray:
        """Thresholds (k,) for the rows of `fold`, fitted without it and without `left_out`."""
        unused = frozenset({fold} if left_out is None else {fold, left_out})
        if unused not in self._cuts:
            self._cuts[unused] = fit_cuts(self._ranked.take(~np.isin(self._fold_of_row, list(unused))))
        return self._cuts[unused].thresholds(policy, strength)

    def macro_f1(self, policy: str, strength: float, left_out: int | None = None) -> float:
        """Cross-fitted macro-F1 over the rows of all folds but `left_out`, which is used nowhere."""
        return _pooled_macro_f1(
            _count(part, self.thresholds(fold, policy, strength, left_out))
            for fold, part in self._parts.items()
            if fold != left_out
        )

    def nested_macro_f1(self) -> float:
        """Cross-fitted macro-F1 of per_label_shrunk, its strength for each fold chosen inside the others."""
        return _pooled_macro_f1(
            _count(part, self.thresholds(fold, "per_label_shrunk", self._inner_strength(fold)))
            for fold, part in self._parts.items()
        )

    def _inner_strength(self, left_out: int) -> float:
        return _strongest_best([self.macro_f1("per_label_shrunk", strength, left_out) for strength in STRENGTHS])


def _pooled_macro_f1(counts: Iterable[Confusion]) -> float:
    return reduce(operator.add, counts).macro_f1


def _count(cells: Cells, thresholds: FloatArray) -> Confusion:
    return count_cells(cells.scores >= thresholds, cells.positives, cells.observed)


def _deal(positives: BoolArray, folds: int, seed: int) -> IntArray:
    num_rows, num_labels = positives.shape
    if folds < 2:
        raise SettingsError(f"folds must be at least 2, but got {folds=}. 5 is usual.")
    if num_rows < folds:
        raise DataError(f"rows must be at least as many as folds, but got {num_rows=}, {folds=}. Use fewer folds.")
    rarity = np.argsort(np.argsort(positives.sum(axis=0), kind="stable"), kind="stable")
    rarest = np.where(positives, rarity, num_labels).min(axis=1)
    order = np.lexsort((np.random.default_rng(seed).random(num_rows), rarest))
    fold_of_row = np.empty(num_rows, dtype=np.intp)
    fold_of_row[order] = np.arange(num_rows) % folds
    return fold_of_row


def _strongest_best(scores: Sequence[float] | FloatArray) -> float:
    best = np.flatnonzero(np.asarray(scores) >= np.max(scores) - _SAME_SCORE)
    return STRENGTHS[int(best[-1])]
