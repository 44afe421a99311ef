"""Average precision and ROC-AUC for every label at once, equal to scikit-learn's, ties and masks included."""

from __future__ import annotations

import numpy as np

from trainer.evaluation.arrays import Array, BoolArray, Cells, FloatArray, IntArray, rank_cells

__all__ = ["average_precisions", "roc_aucs"]


def average_precisions(cells: Cells) -> FloatArray:
    """Return (k,): sum over cuts of precision times the rise in recall; NaN for a label without a positive."""
    ranking = rank_cells(cells)
    precisions = np.cumsum(ranking.positives, axis=1) / np.arange(1, ranking.scores.shape[1] + 1)
    at_group_end = np.take_along_axis(precisions, _group_last(ranking.group_ends), axis=1)
    return _divide_or_nan(np.sum(at_group_end * ranking.positives, axis=1), ranking.positives.sum(axis=1))


def roc_aucs(cells: Cells) -> FloatArray:
    """Return (k,): chance that a positive scores above a negative, ties counting half.

    NaN for a label that lacks positives or negatives.
    """
    ranking = rank_cells(cells)
    negatives = ranking.observed & ~ranking.positives
    counted = np.cumsum(negatives, axis=1)
    last = _group_last(ranking.group_ends)
    not_above = np.take_along_axis(counted, last, axis=1)
    above: IntArray = np.take_along_axis(counted - negatives, _group_first(ranking.group_ends), axis=1)
    lost = np.sum((above + not_above) / 2.0 * ranking.positives, axis=1)
    return 1.0 - _divide_or_nan(lost, ranking.positives.sum(axis=1) * negatives.sum(axis=1))


def _group_last(ends: BoolArray) -> IntArray:
    size = ends.shape[1]
    own = np.where(ends, np.arange(size), size)
    return np.minimum.accumulate(own[:, ::-1], axis=1)[:, ::-1]


def _group_first(ends: BoolArray) -> IntArray:
    starts = np.ones(ends.shape, dtype=bool)
    starts[:, 1:] = ends[:, :-1]
    return np.maximum.accumulate(np.where(starts, np.arange(ends.shape[1]), 0), axis=1)


def _divide_or_nan(numerators: Array, denominators: Array) -> FloatArray:
    quotients = np.full(len(numerators), np.nan)
    np.divide(numerators, denominators, out=quotients, where=denominators > 0)
    return quotients
