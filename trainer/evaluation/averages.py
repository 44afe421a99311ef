"""Precision, recall and F1 by label and their averages, from arrays of counts; many resamples at a time."""

from __future__ import annotations

import numpy as np

from trainer.core.errors import SettingsError
from trainer.evaluation.arrays import BoolArray, FloatArray
from trainer.evaluation.metrics import ratio

__all__ = ["METRICS", "average", "by_label", "labels_and_average"]

METRICS = tuple(f"{over}_{kind}" for kind in ("f1", "precision", "recall") for over in ("macro", "micro", "weighted"))
"""Names that `average` takes."""


def by_label(kind: str, tp: FloatArray, predicted: FloatArray, positives: FloatArray) -> FloatArray:
    """Return f1, precision or recall from counts that broadcast to (..., k); 0/0 is 0."""
    if kind == "f1":
        return ratio(2 * tp, predicted + positives)
    return ratio(tp, np.broadcast_to(predicted if kind == "precision" else positives, tp.shape))


def average(metric: str, scored: BoolArray, tp: FloatArray, predicted: FloatArray, positives: FloatArray) -> FloatArray:
    """Return the average of a metric, (...), from counts that broadcast to (..., k).

    A macro average runs over the labels of `scored`, (k,); a weighted one has the positives as weights.
    Raises SettingsError unless METRICS has the name.
    """
    over, kind = _parts(metric)
    if over == "micro":
        return by_label(kind, *(np.sum(counts, axis=-1) for counts in (tp, predicted, positives)))
    return _mean(over, by_label(kind, tp, predicted, positives), scored, positives)


def labels_and_average(
    metric: str, scored: BoolArray, tp: FloatArray, predicted: FloatArray, positives: FloatArray
) -> FloatArray:
    """Return the metric of each label and last its average, (..., k + 1); see `average`."""
    over, kind = _parts(metric)
    values = by_label(kind, tp, predicted, positives)
    mean = (
        average(metric, scored, tp, predicted, positives) if over == "micro" else _mean(over, values, scored, positives)
    )
    return np.concatenate([values, mean[..., None]], axis=-1)


def _parts(metric: str) -> tuple[str, str]:
    if metric not in METRICS:
        raise SettingsError(f"`metric` must be one of {', '.join(METRICS)}, got {metric}.")
    over, _, kind = metric.partition("_")
    return over, kind


def _mean(over: str, values: FloatArray, scored: BoolArray, positives: FloatArray) -> FloatArray:
    if over == "macro":
        means: FloatArray = values[..., scored].mean(axis=-1)
        return means
    return ratio((values * positives).sum(axis=-1), np.broadcast_to(positives.sum(axis=-1), values.shape[:-1]))
