"""Which labels are predicted where a label is missed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.evaluation.arrays import BoolArray, FloatArray, IntArray, LabelledScores
from trainer.evaluation.metrics import check_predictions, ratio

__all__ = ["Replacements", "replacements"]


@dataclass(frozen=True, eq=False)
class Replacements:
    """Counts of examples where a label is missed, and of what is predicted there."""

    misses: IntArray
    """Examples with the label and without a prediction of it, (k,)."""
    instead: IntArray
    """[i, j]: those of the misses of i where j is predicted and wrong, (k, k + 1); last column: nothing is predicted.

    A missed example with two wrong predictions counts in two columns, and one whose predictions are right in none.
    """

    @property
    def fractions(self) -> FloatArray:
        """`instead` by the misses of the row, (k, k + 1); 0 without misses."""
        return ratio(self.instead, self.misses[:, None])


def replacements(scores: LabelledScores, predictions: BoolArray) -> Replacements:
    """Count what is predicted where a label is missed; predictions: (n, k). Only observed cells count."""
    check_predictions(scores, predictions)
    predicted = predictions & scores.observed
    missed = scores.positives & ~predicted
    wrong = np.hstack([predicted & ~scores.positives, ~predicted.any(axis=1, keepdims=True)])
    # As floats, because numpy multiplies matrices of integers without BLAS; counts below 2**53 are exact.
    instead = missed.T.astype(np.float64) @ wrong.astype(np.float64)
    return Replacements(np.count_nonzero(missed, axis=0), np.rint(instead).astype(np.intp))
