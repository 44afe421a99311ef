"""Exact search for the thresholds with the best F1, over all thresholds that change a prediction, by sorting.

A threshold lies midway between neighbouring distinct scores, with 0 below the lowest and 1 above the highest. Of equal
F1 the highest threshold wins, so the order of examples never matters.
Source: Lipton et al. 2014, https://arxiv.org/abs/1402.1892.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.evaluation.arrays import BoolArray, FloatArray, IntArray, LabelledScores

__all__ = ["SortedScores", "ThresholdCandidates", "best_global_threshold", "best_thresholds_per_label"]

# Equal sums of F1 gains differ by rounding, about 1e-12; differences between macro-F1 values are far larger than this.
_SAME_SUM = 1e-9


@dataclass(frozen=True)
class SortedScores:
    """Probabilities of each label from the highest down, all (k, n); unobserved cells come last with score -inf."""

    scores: FloatArray
    positives: BoolArray
    examples: IntArray
    """Example of each cell."""

    @classmethod
    def of(cls, scores: LabelledScores) -> SortedScores:
        """Sort every label's cells by falling score; the order among equal scores is arbitrary."""
        negated = np.where(scores.observed.T, -scores.probabilities.T, np.inf)
        order = np.argsort(negated, axis=1)
        positives = np.take_along_axis(scores.positives.T, order, axis=1)
        return cls(-np.take_along_axis(negated, order, axis=1), positives, order)

    @property
    def observed(self) -> BoolArray:
        """True for cells that count, (k, n)."""
        return self.scores > -np.inf

    @property
    def group_ends(self) -> BoolArray:
        """True at the last of each run of equal scores, (k, n): a threshold can lie only after these."""
        ends = np.ones(self.scores.shape, dtype=bool)
        ends[:, :-1] = self.scores[:, :-1] != self.scores[:, 1:]
        return ends

    def take(self, kept: BoolArray) -> SortedScores:
        """Return fewer examples without sorting again; kept (k, n) marks the same examples for every label."""
        flat, shape = kept.ravel(), (len(kept), -1)
        return SortedScores(
            self.scores.ravel()[flat].reshape(shape),
            self.positives.ravel()[flat].reshape(shape),
            self.examples.ravel()[flat].reshape(shape),
        )


@dataclass(frozen=True)
class ThresholdCandidates:
    """Scores sorted for each label and for all labels together, so that subsets of examples need no sorting."""

    by_label: SortedScores
    order: IntArray
    """Positions in the flattened `by_label` from the highest score down, (k * n,)."""

    @classmethod
    def of(cls, scores: LabelledScores) -> ThresholdCandidates:
        """Sort the cells, once for each label and once all together."""
        by_label = SortedScores.of(scores)
        return cls(by_label, np.argsort(-by_label.scores.ravel(), kind="stable"))

    def take(self, examples: BoolArray) -> ThresholdCandidates:
        """Return the candidates of some examples; `examples` (n,) is a mask over the examples first sorted."""
        kept = examples[self.by_label.examples]
        flat = kept.ravel()
        new_positions = np.cumsum(flat) - 1
        return ThresholdCandidates(self.by_label.take(kept), new_positions[np.compress(flat[self.order], self.order)])


def best_thresholds_per_label(scores: SortedScores) -> FloatArray:
    """Return for each label the threshold with the best F1, (k,).

    A label without a positive has F1 0 at every threshold: the rule for equal F1 puts its threshold above every score,
    which predicts none of these examples. A label without an observed cell gets 0.5.
    """
    possible = scores.group_ends & scores.observed
    best = np.argmax(np.where(possible, _f1_by_threshold(scores), -1.0), axis=1)  # the first of equals: the highest
    below = np.pad(scores.scores[:, 1:], ((0, 0), (0, 1)), constant_values=-np.inf)
    labels = np.arange(len(best))
    upper, lower = scores.scores[labels, best], below[labels, best]
    thresholds = _midway(np.maximum(lower, 0.0), np.maximum(upper, 0.0))  # -inf: nothing is lower
    return np.where(scores.positives.any(axis=1), thresholds, _above(scores.scores[:, 0]))


def best_global_threshold(candidates: ThresholdCandidates) -> float:
    """Return the one threshold for all labels with the best macro-F1.

    Walks all cells from the highest score down, each step adding the change it makes to the F1 of its label.
    """
    by_label = candidates.by_label
    if not by_label.positives.any():
        return float(_above(by_label.scores[:, :1].max(axis=0))[0])
    order = candidates.order[: int(by_label.observed.sum())]  # unobserved cells come last
    gains = np.diff(_f1_by_threshold(by_label), axis=1, prepend=0.0)
    scores, sums = by_label.scores.ravel()[order], np.cumsum(gains.ravel()[order])
    below = np.append(scores[1:], -np.inf)
    sums[scores == below] = -np.inf  # no threshold separates equal scores
    best = int(np.argmax(sums >= sums.max() - _SAME_SUM))
    return float(_midway(np.maximum(below[best], 0.0), scores[best]))


def _f1_by_threshold(scores: SortedScores) -> FloatArray:
    """Return F1 (k, n) when each label's i + 1 highest scores are predicted. One division: equal F1 compare equal."""
    hits = np.cumsum(scores.positives, axis=1)
    f1: FloatArray = 2.0 * hits / (np.arange(1, hits.shape[1] + 1) + hits[:, -1:])
    return f1


def _midway(lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Return thresholds in (lower, upper]: the midpoint, or `upper` where no float lies between."""
    middle = lower + (upper - lower) / 2.0
    return np.where(middle > lower, middle, upper)


def _above(highest: FloatArray) -> FloatArray:
    """Return thresholds above the highest scores, midway to 1; a score of exactly 1 needs the next float."""
    highest = np.maximum(highest, 0.0)  # -inf for a label without an observed cell, which gets 0.5
    return _midway(highest, np.maximum(1.0, np.nextafter(highest, np.inf)))
