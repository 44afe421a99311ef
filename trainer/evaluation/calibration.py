"""How far probabilities can be taken at their word: temperature, calibration error, Brier score, log-likelihood.

All averages run over observed cells, each cell counting the same. Labels are used as given, so soft labels are
expected rates and not rounded to yes or no.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.core.errors import DataError, SettingsError
from trainer.evaluation.arrays import Array, FloatArray, check_cells

__all__ = [
    "NUM_BINS",
    "TEMPERATURE_BOUNDS",
    "ReliabilityCurve",
    "apply_temperature",
    "brier_score",
    "expected_calibration_error",
    "fit_temperature",
    "negative_log_likelihood",
    "reliability_curve",
]

NUM_BINS = 15
TEMPERATURE_BOUNDS = (0.05, 20.0)


@dataclass(frozen=True)
class ReliabilityCurve:
    """Cells grouped by probability, one entry per bin that holds any, in rising order; each array is (filled bins,)."""

    mean_probabilities: FloatArray
    observed_rates: FloatArray
    counts: FloatArray


def fit_temperature(logits: Array, labels: Array, observed: Array | None = None) -> float:
    """Return the scalar T > 0 for which sigmoid(logits / T) has the lowest negative log-likelihood.

    logits, labels, observed: (n, k). The likelihood is convex in 1 / T, so the minimum is found as the root of its
    slope. Where the minimum lies outside TEMPERATURE_BOUNDS the nearer bound is returned: perfectly separated
    labels would want T = 0, logits that rank backwards T = infinity. Logits that are all 0 fit equally for every
    T and give 1.
    Raises DataError for shapes that differ, values that are not finite, labels outside [0, 1].
    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599.
    """
    from scipy.optimize import brentq  # slow to import, and most callers never fit

    cells = check_cells(logits, labels, observed, kind="logits")
    scores, targets = cells.scores[cells.observed], cells.labels[cells.observed]
    if not scores.any():
        return 1.0

    def slope(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        return float(scores @ (targets - _sigmoid(scores * inverse)))

    low, high = np.log(TEMPERATURE_BOUNDS)
    if slope(low) >= 0.0:
        return TEMPERATURE_BOUNDS[0]
    if slope(high) <= 0.0:
        return TEMPERATURE_BOUNDS[1]
    return float(np.exp(brentq(slope, low, high, xtol=1e-10)))


def apply_temperature(logits: Array, temperature: float) -> FloatArray:
    """Return sigmoid(logits / temperature) in float64, same shape; exact in both tails, no overflow.

    Raises SettingsError for a temperature that is not a positive number, DataError for logits that are not finite.
    """
    if not (np.isfinite(temperature) and temperature > 0.0):
        raise SettingsError(f"temperature must be a positive number, but got {temperature=}. Use 1 to change nothing.")
    logits = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(logits).all():
        num_bad = int((~np.isfinite(logits)).sum())
        raise DataError(f"logits must be finite, but got {num_bad=} cells. Look for a non-finite loss or weight.")
    return _sigmoid(logits / temperature)


def negative_log_likelihood(logits: Array, labels: Array, observed: Array | None = None) -> float:
    """Return the mean binary cross-entropy per observed cell, in nats. logits, labels, observed: (n, k)."""
    cells = check_cells(logits, labels, observed, kind="logits")
    losses = np.logaddexp(0.0, cells.scores) - cells.labels * cells.scores
    return float(losses[cells.observed].mean())


def brier_score(probabilities: Array, labels: Array, observed: Array | None = None) -> float:
    """Return the mean squared difference of probability and label per observed cell; 0 is perfect."""
    cells = check_cells(probabilities, labels, observed)
    return float(np.square(cells.scores - cells.labels)[cells.observed].mean())


def reliability_curve(
    probabilities: Array, labels: Array, observed: Array | None = None, *, bins: int = NUM_BINS
) -> ReliabilityCurve:
    """Return mean probability, observed rate and cell count of equal-width bins; empty bins are left out.

    Bin b holds b / bins <= p < (b + 1) / bins, and the last one also p = 1.
    """
    if bins < 1:
        raise SettingsError(f"bins must be at least 1, but got {bins=}. 15 is usual.")
    cells = check_cells(probabilities, labels, observed)
    scores, targets = cells.scores[cells.observed], cells.labels[cells.observed]
    bin_of_cell = np.minimum((scores * bins).astype(np.intp), bins - 1)
    all_counts = np.bincount(bin_of_cell, minlength=bins)
    filled = all_counts > 0
    counts = all_counts[filled].astype(np.float64)
    return ReliabilityCurve(
        np.bincount(bin_of_cell, scores, bins)[filled] / counts,
        np.bincount(bin_of_cell, targets, bins)[filled] / counts,
        counts,
    )


def expected_calibration_error(
    probabilities: Array, labels: Array, observed: Array | None = None, *, bins: int = NUM_BINS
) -> float:
    """Return the mean gap between probability and observed rate, over bins weighted by their cells; 0 is perfect.

    Cells of all labels are pooled before binning (see reliability_curve for the bins).
    Source: Naeini et al. 2015, https://doi.org/10.1609/aaai.v29i1.9602.
    """
    curve = reliability_curve(probabilities, labels, observed, bins=bins)
    return float(np.average(np.abs(curve.mean_probabilities - curve.observed_rates), weights=curve.counts))


def _sigmoid(values: FloatArray) -> FloatArray:
    shrinking = np.exp(-np.abs(values))  # never overflows
    return np.where(values >= 0.0, 1.0, shrinking) / (1.0 + shrinking)
