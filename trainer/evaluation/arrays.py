"""The scores of a model on one split, with labels and mask: validated once, taken by every function of this package.

Shapes: n examples, k labels. A label value of at least 0.5 is a positive where a score needs yes or no. Scores in cells
whose `observed` is False may be anything, NaN included: no function reads them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainer.core.errors import DataError

__all__ = ["Array", "BoolArray", "FloatArray", "IntArray", "LabelledScores"]

Array: TypeAlias = NDArray[Any]
BoolArray: TypeAlias = NDArray[np.bool_]
FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledScores:
    """Scores, labels and mask of one split, all (n, k); scores and labels become float64.

    Raises DataError when shapes differ, no cell is observed, names are not one per label and distinct, or an observed
    cell has a score that is not finite (of probabilities: outside [0, 1]) or a label outside [0, 1].
    """

    label_names: tuple[str, ...]
    """k distinct names, in the order of the columns."""
    scores: Array
    labels: Array
    """Each in [0, 1]; 0 in unobserved cells, whatever was given."""
    observed: Array
    """True where the data set has a label."""
    kind: Literal["probabilities", "logits"] = "probabilities"

    def __post_init__(self) -> None:
        labels, observed, scores = np.asarray(self.labels, np.float64), np.asarray(self.observed), self.scores
        _check_table(labels, observed, len(self.label_names))
        _check_names(self.label_names)
        labels = np.where(observed, labels, 0.0)  # `positives` then needs no mask
        _check_unit_interval("labels", labels, observed)
        scores = np.asarray(scores, np.float64)
        _check_shape(self.kind, scores.shape, labels.shape)
        _CHECKS[self.kind](self.kind, scores, observed)
        self._set(scores=scores, labels=labels, observed=observed)

    @property
    def probabilities(self) -> FloatArray:
        """The scores; raises TypeError when they are logits."""
        return self._scores_of("probabilities")

    @property
    def logits(self) -> FloatArray:
        """The scores; raises TypeError when they are probabilities."""
        return self._scores_of("logits")

    @property
    def positives(self) -> BoolArray:
        """True in observed cells whose label is at least 0.5, (n, k)."""
        positives: BoolArray = self.labels >= 0.5
        return positives

    @property
    def support(self) -> IntArray:
        """Positives of each label, (k,)."""
        support: IntArray = np.count_nonzero(self.positives, axis=0)
        return support

    @property
    def scored(self) -> BoolArray:
        """Labels with an observed cell, (k,): those that macro averages run over."""
        scored: BoolArray = np.any(self.observed, axis=0)
        return scored

    @property
    def num_examples(self) -> int:
        """Number of examples, n."""
        return len(self.labels)

    @property
    def num_labels(self) -> int:
        """Number of labels, k."""
        return len(self.label_names)

    def take(self, examples: Array) -> Self:
        """Return the given examples, by index or as a mask (n,), without validating them again."""
        chosen = {name: getattr(self, name)[examples] for name in ("scores", "labels", "observed")}
        return copy.copy(self)._set(**chosen)  # dataclasses.replace would validate again

    def take_label(self, label: int) -> Self:
        """Return one label as a split (n, 1), without validating it again."""
        column = slice(label, label + 1)
        chosen = {name: getattr(self, name)[:, column] for name in ("scores", "labels", "observed")}
        return copy.copy(self)._set(**chosen, label_names=self.label_names[column])

    def keep(self, cells: BoolArray) -> Self:
        """Return the split with no other observed cells than these, (n, k), without validating it again."""
        observed = self.observed & cells
        return copy.copy(self)._set(observed=observed, labels=np.where(observed, self.labels, 0.0))

    def with_logits(self, logits: FloatArray) -> LabelledScores:
        """Return the same labels with other logits (n, k), which are not validated."""
        return copy.copy(self)._set(scores=logits, kind="logits")

    def with_probabilities(self, probabilities: FloatArray) -> LabelledScores:
        """Return the same labels with other scores (n, k), which must be probabilities and are not validated."""
        return copy.copy(self)._set(scores=probabilities, kind="probabilities")

    def _scores_of(self, kind: str) -> FloatArray:
        if self.kind != kind:
            raise TypeError(f"scores must be {kind}, got {self.kind}")
        return self.scores

    def _set(self, **values: object) -> Self:
        for name, value in values.items():
            object.__setattr__(self, name, value)
        return self


def _check_table(labels: Array, observed: Array, num_labels: int) -> None:
    if labels.ndim != 2 or labels.size == 0:
        raise DataError(f"`labels` must be a table of examples by labels, got shape {labels.shape}.")
    if labels.shape[1] != num_labels:
        raise DataError(f"`label_names` must have one name per label, got {num_labels} for {labels.shape[1]} labels.")
    if observed.dtype != np.bool_:
        raise DataError(f"`observed` must be boolean, got {observed.dtype}.")
    _check_shape("observed", observed.shape, labels.shape)
    if not observed.any():
        raise DataError("`observed` must be true in at least one cell, got none. Check the label columns.")


def _check_names(label_names: tuple[str, ...]) -> None:
    if len(set(label_names)) != len(label_names):
        twice = sorted({name for name in label_names if label_names.count(name) > 1})
        raise DataError(f"`label_names` must be distinct, got {', '.join(twice)} more than once.")


def _check_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise DataError(f"`{name}` must have the shape of the labels {expected}, got {shape}.")


def _check_unit_interval(name: str, values: FloatArray, observed: BoolArray) -> None:
    # Negated, because no comparison is true for NaN.
    _refuse(name, "lie in [0, 1]", values, observed & ~((values >= 0.0) & (values <= 1.0)))


def _check_finite(name: str, values: FloatArray, observed: BoolArray) -> None:
    _refuse(name, "be finite", values, observed & ~np.isfinite(values))


def _refuse(name: str, rule: str, values: FloatArray, wrong: BoolArray) -> None:
    if wrong.any():
        example, label = np.argwhere(wrong)[0].tolist()
        value = float(values[example, label])
        raise DataError(f"`{name}` must {rule}, got {value} for example {example}, label {label}.")


_CHECKS = {"probabilities": _check_unit_interval, "logits": _check_finite}
