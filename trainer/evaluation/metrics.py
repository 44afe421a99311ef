"""Multi-label scores over observed cells: one dict for the whole split, one row per label.

Conventions. Every label with an observed cell counts in a macro average. Precision, recall and F1 that are 0/0 are 0,
and headline says for how many labels. Average precision and ROC-AUC that do not exist are left out, never 0.
Values equal scikit-learn's with zero_division=0 where every cell is observed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.arrays import (
    Array,
    BoolArray,
    Cells,
    FloatArray,
    check_cells,
    check_labels,
    check_names,
    check_predictions,
    check_thresholds,
)
from trainer.evaluation.calibration import brier_score, expected_calibration_error
from trainer.evaluation.ranking import average_precisions, roc_aucs

__all__ = [
    "MIN_SUPPORT",
    "Confusion",
    "LabelRow",
    "confusion_counts",
    "count_cells",
    "headline",
    "macro_f1",
    "per_label",
    "ratio",
]

MIN_SUPPORT = 40
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
        """All labels as one, each count (1,): what micro averages look at."""
        return Confusion(*(counts.sum(keepdims=True) for counts in (self.tp, self.fp, self.fn, self.tn)))


def ratio(numerators: Array, denominators: Array) -> FloatArray:
    """Return numerators / denominators element by element, 0/0 being 0."""
    shape = np.broadcast_shapes(np.shape(numerators), np.shape(denominators))
    quotients = np.zeros(shape)
    np.divide(numerators, denominators, out=quotients, where=np.asarray(denominators) > 0)
    return quotients


def confusion_counts(predictions: Array, labels: Array, observed: Array | None = None) -> Confusion:
    """Count the observed cells by label. predictions (boolean), labels, observed: (n, k)."""
    labels, mask = check_labels(labels, observed)
    predictions = check_predictions(predictions, labels.shape)
    return count_cells(predictions, labels >= 0.5, mask)


def count_cells(predictions: BoolArray, positives: BoolArray, observed: BoolArray) -> Confusion:
    """Return confusion_counts of arrays (n, k) that have been checked."""
    predicted = predictions & observed
    tp = np.count_nonzero(predicted & positives, axis=0)
    fp = np.count_nonzero(predicted, axis=0) - tp
    fn = np.count_nonzero(positives & observed, axis=0) - tp
    return Confusion(tp, fp, fn, np.count_nonzero(observed, axis=0) - tp - fp - fn)


def macro_f1(predictions: Array, labels: Array, observed: Array | None = None) -> float:
    """Return the mean F1 over labels that have an observed cell; F1 of 0/0 is 0."""
    return confusion_counts(predictions, labels, observed).macro_f1


def headline(
    probabilities: Array, predictions: Array, labels: Array, observed: Array | None = None
) -> dict[str, float]:
    """Return every split-level score by name. All arrays (n, k), predictions boolean.

    {macro,micro,weighted}_{precision,recall,f1}; macro_f1_supported (labels with at least MIN_SUPPORT positives, absent
    if there is none); {macro,micro}_{ap,roc_auc} (absent if undefined for every label); jaccard (mean over rows, an
    empty union being 0), hamming_loss, subset_accuracy, ece, brier; labels_per_row (predicted).
    num_undefined_labels: labels whose precision or recall is 0/0. num_undefined_ap and num_undefined_roc_auc:
    labels left out of those macro averages. num_unobserved_labels: labels without an observed cell, in no average.
    Rows without an observed cell count in no row average.
    """
    cells = check_cells(probabilities, labels, observed)
    predictions = check_predictions(predictions, cells.labels.shape)
    counts = count_cells(predictions, cells.positives, cells.observed)
    return {
        **_averages(counts),
        **_ranking_scores(cells, counts.scored),
        **_row_scores(predictions, cells),
        "ece": expected_calibration_error(cells.scores, cells.labels, cells.observed),
        "brier": brier_score(cells.scores, cells.labels, cells.observed),
    }


def per_label(
    label_names: tuple[str, ...],
    probabilities: Array,
    thresholds: Array,
    labels: Array,
    observed: Array | None = None,
) -> list[LabelRow]:
    """Return one row per label, in label order, for predictions `probabilities >= thresholds`.

    thresholds: (k,); the other arrays (n, k). Keys: label, support, predicted, threshold, precision, recall, f1,
    average_precision, roc_auc, ece. Scores that do not exist are None; for a label without an observed cell that is
    all of them.
    """
    cells = check_cells(probabilities, labels, observed)
    num_labels = cells.labels.shape[1]
    check_names(label_names, num_labels)
    cuts = check_thresholds(thresholds, num_labels)
    counts = count_cells(cells.scores >= cuts, cells.positives, cells.observed)
    columns = {
        "threshold": cuts,
        "precision": np.where(counts.scored, counts.precision, np.nan),
        "recall": np.where(counts.scored, counts.recall, np.nan),
        "f1": np.where(counts.scored, counts.f1, np.nan),
        "average_precision": average_precisions(cells),
        "roc_auc": roc_aucs(cells),
        "ece": _label_calibration_errors(cells, counts.scored),
    }
    rows: list[LabelRow] = []
    for j, name in enumerate(label_names):
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


def _ranking_scores(cells: Cells, scored: BoolArray) -> dict[str, float]:
    scores: dict[str, float] = {}
    for name, measure in (("ap", average_precisions), ("roc_auc", roc_aucs)):
        by_label = measure(cells)[scored]
        defined = by_label[~np.isnan(by_label)]
        scores[f"num_undefined_{name}"] = float(len(by_label) - len(defined))
        if len(defined):
            scores[f"macro_{name}"] = float(defined.mean())
        pooled = float(measure(cells.pooled())[0])
        if not np.isnan(pooled):
            scores[f"micro_{name}"] = pooled
    return scores


def _row_scores(predictions: BoolArray, cells: Cells) -> dict[str, float]:
    rows = cells.observed.any(axis=1)
    predicted, positives = (predictions & cells.observed)[rows], cells.positives[rows]
    wrong = predicted != positives
    return {
        "jaccard": float(ratio((predicted & positives).sum(axis=1), (predicted | positives).sum(axis=1)).mean()),
        "hamming_loss": float(wrong.sum() / cells.observed.sum()),
        "subset_accuracy": float((~wrong.any(axis=1)).mean()),
        "labels_per_row": float(predicted.sum(axis=1).mean()),
    }


def _label_calibration_errors(cells: Cells, scored: BoolArray) -> FloatArray:
    errors = np.full(len(scored), np.nan)
    for label in np.flatnonzero(scored):
        column = slice(label, label + 1)
        errors[label] = expected_calibration_error(
            cells.scores[:, column], cells.labels[:, column], cells.observed[:, column]
        )
    return errors
