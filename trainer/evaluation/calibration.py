"""Calibration of logits, and metrics of it. A served model carries this module; `calibration_fit` fits.

All averages run over observed cells, each cell counting the same. Labels are used as given, so soft labels are
expected rates and not rounded to yes or no.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.core.errors import DataError, SettingsError
from trainer.evaluation.arrays import Array, FloatArray, IntArray, LabelledScores

__all__ = [
    "IDENTITY",
    "LIKELY",
    "NUM_BINS",
    "Calibration",
    "ReliabilityCurve",
    "bin_numbers",
    "brier_score",
    "calibrate",
    "calibration_scores",
    "expected_calibration_error",
    "likely_calibration_error",
    "negative_log_likelihood",
    "reliability_curve",
    "sigmoid",
]

NUM_BINS = 15  # as Guo et al. 2017
LIKELY = 0.1
"""Probability above which a cell counts in `likely_calibration_error`."""


@dataclass(frozen=True)
class ReliabilityCurve:
    """Cells grouped by probability, in rising order; each array has one entry per bin that has cells."""

    mean_probabilities: FloatArray
    observed_rates: FloatArray
    counts: FloatArray


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The map from logits to probabilities, the same for all labels: sigmoid(logit / temperature + bias).

    Raises ValueError for a temperature that is not a positive number or a bias that is not finite.
    """

    temperature: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature > 0.0):
            raise ValueError(f"`temperature` must be a positive number, got {self.temperature}")
        if not np.isfinite(self.bias):
            raise ValueError(f"`bias` must be a finite number, got {self.bias}")

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Calibration:
        """Return the calibration that a file describes; one of an older version has no bias."""
        return cls(temperature=float(content["temperature"]), bias=float(content.get("bias", 0.0)))

    def logits(self, logits: Array) -> FloatArray:
        """Return logits / temperature + bias in float64, same shape."""
        return np.asarray(logits, dtype=np.float64) / self.temperature + self.bias

    def probabilities(self, logits: Array) -> FloatArray:
        """Return the calibrated probabilities, same shape; exact in both tails, no overflow.

        Raises DataError for logits that are not finite.
        """
        if not np.isfinite(logits).all():
            num_bad = int((~np.isfinite(logits)).sum())
            raise DataError(
                f"`logits` must be finite, got {num_bad} that are not. Look for a non-finite loss or weight."
            )
        return sigmoid(self.logits(logits))


IDENTITY = Calibration()
"""Changes no probability: the sigmoid of the logits."""


def calibrate(scores: LabelledScores, calibration: Calibration = IDENTITY) -> LabelledScores:
    """Return the split with calibrated probabilities in place of logits."""
    return scores.with_probabilities(sigmoid(calibration.logits(scores.logits)))


def negative_log_likelihood(scores: LabelledScores, calibration: Calibration = IDENTITY) -> float:
    """Return the mean binary cross-entropy of calibrated logits per observed cell, in nats."""
    logits, targets = calibration.logits(scores.logits[scores.observed]), scores.labels[scores.observed]
    return float((np.logaddexp(0.0, logits) - targets * logits).mean())  # needs no log of a probability that is 0


def brier_score(scores: LabelledScores) -> float:
    """Return the mean squared difference of probability and label per observed cell; 0 is perfect."""
    return float(np.square(scores.probabilities - scores.labels)[scores.observed].mean())


def bin_numbers(probabilities: FloatArray, *, bins: int = NUM_BINS) -> IntArray:
    """Return the bin of each probability, same shape.

    Bin b contains b / bins <= p < (b + 1) / bins, and the last one also p = 1.
    """
    return np.minimum((probabilities * bins).astype(np.intp), bins - 1)


def reliability_curve(scores: LabelledScores, *, bins: int = NUM_BINS) -> ReliabilityCurve:
    """Return mean probability, observed rate and cell count of equal-width bins; empty bins are left out."""
    if bins < 1:
        raise SettingsError(f"`bins` must be at least 1, got {bins}. 15 is usual.")
    probabilities, targets = scores.probabilities[scores.observed], scores.labels[scores.observed]
    bin_of_cell = bin_numbers(probabilities, bins=bins)
    all_counts = np.bincount(bin_of_cell, minlength=bins)
    filled = all_counts > 0
    counts = all_counts[filled].astype(np.float64)
    return ReliabilityCurve(
        np.bincount(bin_of_cell, probabilities, bins)[filled] / counts,
        np.bincount(bin_of_cell, targets, bins)[filled] / counts,
        counts,
    )


def expected_calibration_error(scores: LabelledScores, *, bins: int = NUM_BINS) -> float:
    """Return the mean gap between probability and observed rate, over bins weighted by their cells; 0 is perfect.

    Cells of all labels are pooled before binning (see bin_numbers).
    Source: Naeini et al. 2015, https://doi.org/10.1609/aaai.v29i1.9602.
    """
    curve = reliability_curve(scores, bins=bins)
    return float(np.average(np.abs(curve.mean_probabilities - curve.observed_rates), weights=curve.counts))


def likely_calibration_error(scores: LabelledScores) -> float | None:
    """Return the expected calibration error over the cells with a probability above LIKELY; None without such a cell.

    Most cells of rare labels have a probability near 0 and are right, which hides the error of all others.
    """
    likely = scores.keep(scores.probabilities > LIKELY)
    return expected_calibration_error(likely) if likely.observed.any() else None


def calibration_scores(logits: LabelledScores, calibration: Calibration = IDENTITY) -> dict[str, float]:
    """Return ece, ece_likely (absent if undefined), brier and nll of calibrated logits, by name."""
    scores = calibrate(logits, calibration)
    named = {
        "ece": expected_calibration_error(scores),
        "ece_likely": likely_calibration_error(scores),
        "brier": brier_score(scores),
        "nll": negative_log_likelihood(logits, calibration),  # from logits: a probability may round to 0 or 1
    }
    return {name: value for name, value in named.items() if value is not None}


def sigmoid(values: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-values)), same shape, without overflow."""
    shrinking = np.exp(-np.abs(values))  # never overflows
    return np.where(values >= 0.0, 1.0, shrinking) / (1.0 + shrinking)
