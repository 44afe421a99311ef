"""Checked (row, label) cells: every number in `metrics`, `thresholds`, `calibration`, `significance` starts here.

Shapes: n examples (rows), k labels. A label of at least 0.5 is a positive where a score needs yes or no.
Cells whose `observed` is False may hold anything, NaN included: they are overwritten before any arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainer.core.errors import DataError

__all__ = [
    "Array",
    "BoolArray",
    "Cells",
    "FloatArray",
    "IntArray",
    "Ranking",
    "check_cells",
    "check_labels",
    "check_names",
    "check_predictions",
    "check_thresholds",
    "rank_cells",
]

Array: TypeAlias = NDArray[Any]
BoolArray: TypeAlias = NDArray[np.bool_]
FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True)
class Cells:
    """Scores (probabilities or logits), labels and mask of one split, all (n, k); unobserved cells hold 0."""

    scores: FloatArray
    labels: FloatArray
    observed: BoolArray

    @property
    def positives(self) -> BoolArray:
        """Observed cells whose label is at least 0.5, (n, k)."""
        return self.labels >= 0.5

    def take(self, rows: Array) -> Cells:
        """The given rows, named by index or by a boolean (n,)."""
        return Cells(self.scores[rows], self.labels[rows], self.observed[rows])

    def pooled(self) -> Cells:
        """All labels as one, (n * k, 1): what micro averages look at."""
        return Cells(self.scores.reshape(-1, 1), self.labels.reshape(-1, 1), self.observed.reshape(-1, 1))


@dataclass(frozen=True)
class Ranking:
    """Cells of each label from the highest score down, all (k, n); unobserved cells come last with score -inf."""

    scores: FloatArray
    positives: BoolArray
    rows: IntArray
    """Row that each cell came from."""

    @property
    def observed(self) -> BoolArray:
        """True for cells that count, (k, n)."""
        return self.scores > -np.inf

    @property
    def group_ends(self) -> BoolArray:
        """True at the last of each run of equal scores, (k, n): a cut can fall only after these."""
        ends = np.ones(self.scores.shape, dtype=bool)
        ends[:, :-1] = self.scores[:, :-1] != self.scores[:, 1:]
        return ends

    def take(self, kept: BoolArray) -> Ranking:
        """The ranking of fewer rows without sorting again; kept (k, n) names the same rows for every label."""
        flat, shape = kept.ravel(), (len(kept), -1)
        return Ranking(
            self.scores.ravel()[flat].reshape(shape),
            self.positives.ravel()[flat].reshape(shape),
            self.rows.ravel()[flat].reshape(shape),
        )


def rank_cells(cells: Cells) -> Ranking:
    """Sort every label's cells by falling score; the order among equal scores is arbitrary."""
    negated = np.where(cells.observed.T, -cells.scores.T, np.inf)
    order = np.argsort(negated, axis=1)
    scores = -np.take_along_axis(negated, order, axis=1)
    return Ranking(scores, np.take_along_axis(cells.positives.T, order, axis=1), order)


def check_cells(
    scores: Array, labels: Array, observed: Array | None, *, kind: Literal["probabilities", "logits"] = "probabilities"
) -> Cells:
    """Return the cells as float64 with the unobserved ones set to 0.

    Raises DataError when shapes differ, no cell is observed, or an observed cell holds a score that is not finite
    (for probabilities: outside [0, 1]) or a label outside [0, 1].
    """
    labels, mask = check_labels(labels, observed)
    scores = np.asarray(scores, dtype=np.float64)
    _check_same_shape(kind, scores.shape, labels.shape)
    scores = np.where(mask, scores, 0.0)
    if kind == "probabilities":
        _check_unit_interval(kind, scores)
    elif not np.isfinite(scores).all():
        row, label = np.argwhere(~np.isfinite(scores))[0].tolist()
        raise DataError(
            f"{kind} must be finite, but got value={float(scores[row, label])} at {row=}, {label=}. "
            "Look for a non-finite loss or weight in the model that made them."
        )
    return Cells(scores, labels, mask)


def check_labels(labels: Array, observed: Array | None) -> tuple[FloatArray, BoolArray]:
    """Return labels (n, k) as float64 with unobserved cells 0, and the mask (n, k); None observes every cell."""
    labels = np.asarray(labels, dtype=np.float64)
    if labels.ndim != 2 or labels.size == 0:
        raise DataError(f"labels must be a table of rows by labels, but got {labels.shape=}. Pass at least one row.")
    mask = np.ones(labels.shape, dtype=bool) if observed is None else np.asarray(observed)
    if mask.dtype != np.bool_:
        raise DataError(f"observed must be boolean, but got {mask.dtype=}. Convert it with `observed != 0`.")
    _check_same_shape("observed", mask.shape, labels.shape)
    if not mask.any():
        raise DataError(
            f"observed must mark at least one cell, but got none of {mask.shape=}. Check the label columns."
        )
    labels = np.where(mask, labels, 0.0)
    _check_unit_interval("labels", labels)
    return labels, mask


def check_predictions(predictions: Array, shape: tuple[int, ...], name: str = "predictions") -> BoolArray:
    """Return the predictions when they are a boolean array of this shape; raises DataError otherwise."""
    predictions = np.asarray(predictions)
    if predictions.dtype != np.bool_:
        raise DataError(
            f"{name} must be boolean, but got {predictions.dtype=}. Apply thresholds with thresholds.predict first."
        )
    _check_same_shape(name, predictions.shape, shape)
    return predictions


def check_thresholds(thresholds: Array, num_labels: int) -> FloatArray:
    """Return the thresholds as float64 (k,); raises DataError for another shape or a value that is not finite."""
    thresholds = np.asarray(thresholds, dtype=np.float64)
    if thresholds.shape != (num_labels,) or not np.isfinite(thresholds).all():
        raise DataError(
            f"thresholds must be one finite number for each of {num_labels} labels, but got {thresholds=}. "
            "Fit them on the same labels."
        )
    return thresholds


def check_names(label_names: tuple[str, ...], num_labels: int) -> None:
    """Raise DataError unless there is exactly one distinct name for each label."""
    if len(label_names) != num_labels or len(set(label_names)) != num_labels:
        raise DataError(
            f"label_names must be {num_labels} different names, but got {label_names=}. "
            "Pass the names in the order of the columns."
        )


def _check_same_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise DataError(
            f"{name} must have the shape of labels, but got {shape=}, {expected=}. "
            "Pass arrays made from the same rows and labels."
        )


def _check_unit_interval(name: str, values: FloatArray) -> None:
    inside = (values >= 0.0) & (values <= 1.0)
    if not inside.all():
        row, label = np.argwhere(~inside)[0].tolist()
        raise DataError(
            f"{name} must lie in [0, 1], but got value={float(values[row, label])} at {row=}, {label=}. "
            "Mask cells that are not annotated with `observed`."
        )
