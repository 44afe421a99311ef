"""Bootstrap intervals of any statistic of weighted examples: percentile, basic, BCa and standard error.

They equal those of scipy.stats.bootstrap for the same resamples, which scores one resample at a time or holds all of
them in memory.
Source: Davison & Hinkley 1997, Bootstrap Methods and their Application, ch. 5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import numpy as np

from trainer.core.errors import DataError, SettingsError
from trainer.evaluation.arrays import FloatArray
from trainer.evaluation.metrics import ratio
from trainer.evaluation.resampling import Resampling, chunks, resamples

__all__ = ["RESAMPLING_METHODS", "ResamplingMethod", "Statistic", "interval_ends", "resampled_intervals"]

ResamplingMethod: TypeAlias = Literal["percentile", "basic", "bca", "standard_error"]
RESAMPLING_METHODS: tuple[ResamplingMethod, ...] = get_args(ResamplingMethod)
Statistic: TypeAlias = Callable[[FloatArray], FloatArray]
"""Takes how often each unit counts, (c, units), returns m scores of each, (c, m); NaN where a score is undefined."""


def resampled_intervals(
    statistic: Statistic, num_units: int, method: ResamplingMethod, resampling: Resampling
) -> tuple[FloatArray, FloatArray]:
    """Return the low and high ends of the m scores, both (m,). A unit is an example or a group of examples."""
    point = statistic(np.ones((1, num_units)))[0]
    drawn = np.concatenate([statistic(counts) for counts in resamples(num_units, resampling)])
    left_out = _leave_one_out(statistic, num_units) if method == "bca" else None
    return interval_ends(method, point, drawn, resampling.level, left_out=left_out)


def interval_ends(
    method: ResamplingMethod,
    point: FloatArray,
    drawn: FloatArray,
    level: float,
    *,
    left_out: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return the low and high ends, both (m,).

    point: (m,), the scores. drawn: (resamples, m). left_out: (units, m), the scores without each unit, for `bca`.
    Resamples in which a score is undefined, NaN, do not count for it.
    """
    if method not in RESAMPLING_METHODS:
        raise SettingsError(f"`method` must be one of {', '.join(RESAMPLING_METHODS)}, got {method}.")
    tail = (1.0 - level) / 2.0
    if method == "standard_error":
        from scipy.special import ndtri  # slow to import

        half = -ndtri(tail) * np.nanstd(drawn, axis=0, ddof=1)
        return point - half, point + half
    if method == "bca":
        if left_out is None:
            raise TypeError("left_out must be given for bca")
        tails = _bca_tails(point, drawn, left_out, tail)
        ends = [_quantiles(drawn, probabilities) for probabilities in tails]
        return ends[0], ends[1]
    low, high = (_quantiles(drawn, np.full(len(point), probability)) for probability in (tail, 1.0 - tail))
    return (2 * point - high, 2 * point - low) if method == "basic" else (low, high)


def _bca_tails(
    point: FloatArray, drawn: FloatArray, left_out: FloatArray, tail: float
) -> tuple[FloatArray, FloatArray]:
    """Return the probabilities whose quantiles are the ends, both (m,).

    Source: Efron 1987, https://doi.org/10.1080/01621459.1987.10478410.
    """
    from scipy.special import ndtr, ndtri

    counted = np.isfinite(drawn).sum(axis=0)
    below = ((drawn < point).sum(axis=0) + (drawn <= point).sum(axis=0)) / (2 * counted)
    # All resamples on one side would put the bias at infinity.
    bias = ndtri(np.clip(below, 0.5 / counted, 1.0 - 0.5 / counted))
    deviations = np.nanmean(left_out, axis=0) - left_out
    acceleration = ratio(np.nansum(deviations**3, axis=0), 6 * np.nansum(deviations**2, axis=0) ** 1.5)

    def moved(quantile: float) -> FloatArray:
        shifted = bias + quantile
        probabilities: FloatArray = ndtr(bias + shifted / (1 - acceleration * shifted))
        return probabilities

    return moved(ndtri(tail)), moved(-ndtri(tail))


def _quantiles(drawn: FloatArray, probabilities: FloatArray) -> FloatArray:
    """Return a quantile of each column, (m,): one probability each; NaN for a score that no resample defines."""
    pairs = zip(drawn.T, probabilities, strict=True)
    return np.array([np.nanquantile(one, at) if np.isfinite(one).any() else np.nan for one, at in pairs])


def _leave_one_out(statistic: Statistic, num_units: int) -> FloatArray:
    """Return the scores without each unit, (units, m)."""
    if num_units < 2:
        raise DataError("An interval by `bca` needs at least 2 examples, got 1.")
    parts, start = [], 0
    for size in chunks(num_units, Resampling(num_resamples=num_units)):
        counts = np.ones((size, num_units))
        counts[np.arange(size), start + np.arange(size)] = 0.0
        parts.append(statistic(counts))
        start += size
    return np.concatenate(parts)
