"""Multi-label scores over observed cells: one dict for the whole split, one row per label.

Conventions. Every label with an observed cell counts in a macro average. Precision, recall and F1 that are 0/0 are 0,
and `num_undefined_labels` counts those labels. Average precision and ROC-AUC that do not exist are left out, never 0.
Values equal scikit-learn's with zero_division=0 where every cell is observed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainer.core.errors import DataError
from trainer.evaluation.arrays import Array, BoolArray, FloatArray, LabelledScores
from trainer.evaluation.calibration import brier_score, expected_calibration_error

__all__ = [
    "MIN_SUPPORT",
    "Confusion",
    "LabelRow",
    "check_predictions",
    "confusion_counts",
    "decision_scores",
    "headline",
    "macro_average_precision",
    "macro_f1",
    "per_label",
    "probability_scores",
    "ratio",
]

MIN_SUPPORT = 40  # leaves out the 5 of 28 labels of GoEmotions that have 6 to 37 positives on test
LabelRow: TypeAlias = dict[str, str | int | float | None]


@dataclass(frozen=True)
class Confusion:
    """Counts of observed cells by label, each (k,): true and false positives, false and true negatives."""

    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    tn: NDArray[np.int64]

    @property
    def support(self) -> NDArray[np.int64]:
        """Positives by label, (k,)."""
        return self.tp + self.fn

    @property
    def scored(self) -> BoolArray:
        """Labels with at least one observed cell, (k,): the ones macro averages run over."""
        return self.tp + self.fp + self.fn + self.tn > 0

    @property
    def precision(self) -> FloatArray:
        """By label, (k,): tp / (tp + fp)."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> FloatArray:
        """By label, (k,): tp / (tp + fn)."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> FloatArray:
        """By label, (k,): 2 tp / (2 tp + fp + fn)."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the scored labels."""
        return float(self.f1[self.scored].mean())

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    def pooled(self) -> Confusion:
        """Return the sums over labels, each count (1,), for micro averages."""
        return Confusion(*(counts.sum(keepdims=True) for counts in (self.tp, self.fp, self.fn, self.tn)))


def ratio(numerators: Array, denominators: Array) -> FloatArray:
    """Return numerators / denominators element by element, 0/0 being 0."""
    shape = np.broadcast_shapes(np.shape(numerators), np.shape(denominators))
    quotients = np.zeros(shape)
    np.divide(numerators, denominators, out=quotients, where=np.asarray(denominators) > 0)  # no warning for 0/0
    return quotients


def check_predictions(scores: LabelledScores, predictions: Array) -> None:
    """Raise DataError unless the predictions are boolean and have the shape of the scores."""
    if predictions.dtype != np.bool_ or predictions.shape != scores.labels.shape:
        raise DataError(
            f"`predictions` must be boolean of shape {scores.labels.shape}, "
            f"got {predictions.dtype} of shape {predictions.shape}."
        )


def confusion_counts(scores: LabelledScores, predictions: Array) -> Confusion:
    """Count the observed cells by label; predictions: (n, k)."""
    check_predictions(scores, predictions)
    predicted = predictions & scores.observed
    tp = np.count_nonzero(predicted & scores.positives, axis=0)
    fp = np.count_nonzero(predicted, axis=0) - tp
    fn = scores.support - tp
    return Confusion(tp, fp, fn, np.count_nonzero(scores.observed, axis=0) - tp - fp - fn)


def macro_f1(scores: LabelledScores, predictions: BoolArray) -> float:
    """Return the mean F1 over labels that have an observed cell; F1 of 0/0 is 0."""
    return confusion_counts(scores, predictions).macro_f1


def macro_average_precision(scores: LabelledScores) -> float | None:
    """Return the mean average precision over the labels with a positive, None without such a label."""
    defined = [value for value in _by_label(scores, _average_precision) if not np.isnan(value)]
    return float(np.mean(defined)) if defined else None


def headline(scores: LabelledScores, predictions: BoolArray) -> dict[str, float]:
    """Return every split-level score by name: decision_scores and probability_scores."""
    return decision_scores(scores, predictions) | probability_scores(scores)


def decision_scores(scores: LabelledScores, predictions: BoolArray) -> dict[str, float]:
    """Return the scores of predictions (n, k) by name.

    {macro,micro,weighted}_{precision,recall,f1}; macro_f1_supported (labels with at least MIN_SUPPORT positives, absent
    if there is none); jaccard (mean over examples, an empty union being 0), hamming_loss, subset_accuracy;
    labels_per_row (predicted). num_undefined_labels: labels whose precision or recall is 0/0. num_unobserved_labels:
    labels without an observed cell, in no average. Examples without an observed cell count in no mean over examples.
    """
    return _averages(confusion_counts(scores, predictions)) | _example_scores(predictions, scores)


def probability_scores(scores: LabelledScores) -> dict[str, float]:
    """Return the scores that need no threshold by name.

    {macro,micro}_{ap,roc_auc} (absent if undefined for every label); num_undefined_ap and num_undefined_roc_auc: labels
    left out of those macro averages; ece, brier.
    """
    named: dict[str, float] = {}
    for name, measure in (("ap", _average_precision), ("roc_auc", _roc_auc)):
        by_label = _by_label(scores, measure)[scores.scored]
        defined = by_label[~np.isnan(by_label)]
        named[f"num_undefined_{name}"] = float(len(by_label) - len(defined))
        if len(defined):
            named[f"macro_{name}"] = float(defined.mean())
        pooled = measure(scores.positives[scores.observed], scores.probabilities[scores.observed])
        if not np.isnan(pooled):
            named[f"micro_{name}"] = pooled
    return named | {"ece": expected_calibration_error(scores), "brier": brier_score(scores)}


def per_label(scores: LabelledScores, thresholds: FloatArray) -> list[LabelRow]:
    """Return one row per label, in label order, for predictions `probabilities >= thresholds`; thresholds: (k,).

    Keys: label, support, predicted, threshold, precision, recall, f1, average_precision, roc_auc, ece. Scores that do
    not exist are None; for a label without an observed cell that is all of them.
    """
    counts = confusion_counts(scores, scores.probabilities >= thresholds)
    columns = {
        "threshold": np.asarray(thresholds, np.float64),
        "precision": np.where(counts.scored, counts.precision, np.nan),
        "recall": np.where(counts.scored, counts.recall, np.nan),
        "f1": np.where(counts.scored, counts.f1, np.nan),
        "average_precision": _by_label(scores, _average_precision),
        "roc_auc": _by_label(scores, _roc_auc),
        "ece": _label_calibration_errors(scores, counts.scored),
    }
    rows: list[LabelRow] = []
    for j, name in enumerate(scores.label_names):
        row: LabelRow = {"label": name, "support": int(counts.support[j])}
        row["predicted"] = int(counts.tp[j] + counts.fp[j])
        row |= {key: None if np.isnan(column[j]) else float(column[j]) for key, column in columns.items()}
        rows.append(row)
    return rows


def _averages(counts: Confusion) -> dict[str, float]:
    total, support, scored = counts.pooled(), counts.support, counts.scored
    scores: dict[str, float] = {}
    for name in ("precision", "recall", "f1"):
        values = getattr(counts, name)
        scores[f"macro_{name}"] = float(values[scored].mean())
        scores[f"micro_{name}"] = float(getattr(total, name)[0])
        scores[f"weighted_{name}"] = float(ratio(values @ support, support.sum()))
    supported = support >= MIN_SUPPORT
    if supported.any():
        scores["macro_f1_supported"] = float(counts.f1[supported].mean())
    undefined = scored & ((support == 0) | (counts.tp + counts.fp == 0))
    scores["num_undefined_labels"] = float(undefined.sum())
    scores["num_unobserved_labels"] = float((~scored).sum())
    return scores


def _example_scores(predictions: BoolArray, scores: LabelledScores) -> dict[str, float]:
    counted = scores.observed.any(axis=1)
    predicted, positives = (predictions & scores.observed)[counted], scores.positives[counted]
    wrong = predicted != positives
    return {
        "jaccard": float(ratio((predicted & positives).sum(axis=1), (predicted | positives).sum(axis=1)).mean()),
        "hamming_loss": float(wrong.sum() / scores.observed.sum()),
        "subset_accuracy": float((~wrong.any(axis=1)).mean()),
        "labels_per_row": float(predicted.sum(axis=1).mean()),
    }


def _by_label(scores: LabelledScores, measure: Callable[[BoolArray, FloatArray], float]) -> FloatArray:
    columns = zip(scores.positives.T, scores.probabilities.T, scores.observed.T, strict=True)
    return np.array([measure(positives[seen], column[seen]) for positives, column, seen in columns])


def _average_precision(positives: BoolArray, scores: FloatArray) -> float:
    """Return average precision, NaN without a positive, where scikit-learn gives 0 and a warning."""
    from sklearn.metrics import average_precision_score  # slow to import

    return float(average_precision_score(positives, scores)) if positives.any() else np.nan


def _roc_auc(positives: BoolArray, scores: FloatArray) -> float:
    """Return ROC-AUC, NaN without a positive or without a negative."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positives, scores)) if positives.any() and not positives.all() else np.nan


def _label_calibration_errors(scores: LabelledScores, scored: BoolArray) -> FloatArray:
    errors = np.full(len(scored), np.nan)
    for label in np.flatnonzero(scored).tolist():
        errors[label] = expected_calibration_error(scores.take_label(label))
    return errors
