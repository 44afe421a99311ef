"""Exact search for the cuts that give the best F1, over all cuts there are, by sorting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.evaluation.arrays import BoolArray, Cells, FloatArray, IntArray, Ranking, rank_cells

__all__ = ["SortedCells", "label_cuts", "shared_cut"]

# Equal sums of F1 gains differ by rounding, about 1e-12; differences between macro-F1 values are far larger than this.
_SAME_SUM = 1e-9


@dataclass(frozen=True)
class SortedCells:
    """A ranking of each label and of all labels together, so that subsets of rows need no sorting of their own."""

    ranking: Ranking
    order: IntArray
    """Positions in the flattened ranking from the highest score down, (k * n,)."""

    @classmethod
    def of(cls, cells: Cells) -> SortedCells:
        """Sort the cells, once for each label and once all together."""
        ranking = rank_cells(cells)
        return cls(ranking, np.argsort(-ranking.scores.ravel(), kind="stable"))

    def take(self, rows: BoolArray) -> SortedCells:
        """The sorted cells of some rows; `rows` (n,) is a mask over the rows first sorted."""
        kept = rows[self.ranking.rows]
        flat = kept.ravel()
        new_positions = np.cumsum(flat) - 1
        return SortedCells(self.ranking.take(kept), new_positions[np.compress(flat[self.order], self.order)])


def label_cuts(ranking: Ranking) -> FloatArray:
    """Return each label's cut with the best F1, (k,); conventions in thresholds.best_f1_thresholds."""
    possible = ranking.group_ends & ranking.observed
    best = np.argmax(np.where(possible, _f1_by_cut(ranking), -1.0), axis=1)
    below = np.pad(ranking.scores[:, 1:], ((0, 0), (0, 1)), constant_values=-np.inf)
    labels = np.arange(len(best))
    upper, lower = ranking.scores[labels, best], below[labels, best]
    cuts = _midway(np.maximum(lower, 0.0), np.maximum(upper, 0.0))
    return np.where(ranking.positives.any(axis=1), cuts, _above(ranking.scores[:, 0]))


def shared_cut(cells: SortedCells) -> float:
    """Return the cut with the best macro-F1; conventions in thresholds.global_threshold.

    Walks all cells from the highest score down, each step adding the change it makes to its own label's F1.
    """
    ranking = cells.ranking
    if not ranking.positives.any():
        return float(_above(ranking.scores[:, :1].max(axis=0))[0])
    order = cells.order[: int(ranking.observed.sum())]
    gains = np.diff(_f1_by_cut(ranking), axis=1, prepend=0.0)
    scores, sums = ranking.scores.ravel()[order], np.cumsum(gains.ravel()[order])
    below = np.append(scores[1:], -np.inf)
    sums[scores == below] = -np.inf
    best = int(np.argmax(sums >= sums.max() - _SAME_SUM))
    return float(_midway(np.maximum(below[best], 0.0), scores[best]))


def _f1_by_cut(ranking: Ranking) -> FloatArray:
    """F1 (k, n) when each label's i + 1 highest scores are predicted; a single division, so equal F1 compare equal."""
    hits = np.cumsum(ranking.positives, axis=1)
    f1: FloatArray = 2.0 * hits / (np.arange(1, hits.shape[1] + 1) + hits[:, -1:])
    return f1


def _midway(lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Cuts in (lower, upper]: the midpoint, or `upper` where no float lies between."""
    middle = lower + (upper - lower) / 2.0
    return np.where(middle > lower, middle, upper)


def _above(highest: FloatArray) -> FloatArray:
    """Cuts above the highest scores, midway to 1; a score of exactly 1 needs the next float."""
    highest = np.maximum(highest, 0.0)
    return _midway(highest, np.maximum(1.0, np.nextafter(highest, np.inf)))
