"""Temperature scaling and calibration metrics.

All averages run over observed cells, each cell counting the same. Labels are used as given, so soft labels are
expected rates and not rounded to yes or no.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.core.errors import DataError, SettingsError
from trainer.evaluation.arrays import Array, FloatArray, LabelledScores

__all__ = [
    "NUM_BINS",
    "TEMPERATURE_BOUNDS",
    "ReliabilityCurve",
    "apply_temperature",
    "brier_score",
    "calibrate",
    "expected_calibration_error",
    "fit_temperature",
    "negative_log_likelihood",
    "reliability_curve",
]

NUM_BINS = 15  # as Guo et al. 2017
TEMPERATURE_BOUNDS = (0.05, 20.0)


@dataclass(frozen=True)
class ReliabilityCurve:
    """Cells grouped by probability, in rising order; each array has one entry per bin that has cells."""

    mean_probabilities: FloatArray
    observed_rates: FloatArray
    counts: FloatArray


def fit_temperature(scores: LabelledScores) -> float:
    """Return the scalar T > 0 for which sigmoid(logits / T) has the lowest negative log-likelihood.

    The likelihood is convex in 1 / T, so the minimum is the root of its slope. Where the minimum lies outside
    TEMPERATURE_BOUNDS the nearer bound is returned: perfectly separated labels would want T = 0, logits that rank
    backwards T = infinity. Logits that are all 0 fit equally for every T and give 1.
    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599.
    """
    from scipy.optimize import brentq  # slow to import, and most callers never fit

    logits, targets = scores.logits[scores.observed], scores.labels[scores.observed]
    if not logits.any():
        return 1.0

    def slope(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        return float(logits @ (targets - _sigmoid(logits * inverse)))

    low, high = np.log(TEMPERATURE_BOUNDS)  # in log T the tolerance of the root is relative to T
    if slope(low) >= 0.0:  # the likelihood still rises towards smaller T
        return TEMPERATURE_BOUNDS[0]
    if slope(high) <= 0.0:
        return TEMPERATURE_BOUNDS[1]
    return float(np.exp(brentq(slope, low, high, xtol=1e-10)))


def apply_temperature(logits: Array, temperature: float) -> FloatArray:
    """Return sigmoid(logits / temperature) in float64, same shape; exact in both tails, no overflow.

    Raises SettingsError for a temperature that is not a positive number, DataError for logits that are not finite.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(logits).all():
        num_bad = int((~np.isfinite(logits)).sum())
        raise DataError(f"`logits` must be finite, got {num_bad} that are not. Look for a non-finite loss or weight.")
    return _sigmoid(logits / _checked(temperature))


def calibrate(scores: LabelledScores, temperature: float) -> LabelledScores:
    """Return the split with probabilities sigmoid(logits / temperature) in place of logits."""
    return scores.with_probabilities(_sigmoid(scores.logits / _checked(temperature)))


def negative_log_likelihood(scores: LabelledScores, temperature: float = 1.0) -> float:
    """Return the mean binary cross-entropy of logits / temperature per observed cell, in nats."""
    logits, targets = scores.logits[scores.observed] / _checked(temperature), scores.labels[scores.observed]
    return float((np.logaddexp(0.0, logits) - targets * logits).mean())  # needs no log of a probability that is 0


def brier_score(scores: LabelledScores) -> float:
    """Return the mean squared difference of probability and label per observed cell; 0 is perfect."""
    return float(np.square(scores.probabilities - scores.labels)[scores.observed].mean())


def reliability_curve(scores: LabelledScores, *, bins: int = NUM_BINS) -> ReliabilityCurve:
    """Return mean probability, observed rate and cell count of equal-width bins; empty bins are left out.

    Bin b contains b / bins <= p < (b + 1) / bins, and the last one also p = 1.
    """
    if bins < 1:
        raise SettingsError(f"`bins` must be at least 1, got {bins}. 15 is usual.")
    probabilities, targets = scores.probabilities[scores.observed], scores.labels[scores.observed]
    bin_of_cell = np.minimum((probabilities * bins).astype(np.intp), bins - 1)
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

    Cells of all labels are pooled before binning (see reliability_curve for the bins).
    Source: Naeini et al. 2015, https://doi.org/10.1609/aaai.v29i1.9602.
    """
    curve = reliability_curve(scores, bins=bins)
    return float(np.average(np.abs(curve.mean_probabilities - curve.observed_rates), weights=curve.counts))


def _checked(temperature: float) -> float:
    if not (np.isfinite(temperature) and temperature > 0.0):
        raise SettingsError(f"`temperature` must be a positive number, got {temperature}. 1 changes nothing.")
    return temperature


def _sigmoid(values: FloatArray) -> FloatArray:
    shrinking = np.exp(-np.abs(values))  # never overflows
    return np.where(values >= 0.0, 1.0, shrinking) / (1.0 + shrinking)
