"""Inference for means and differences of scores of several runs on the same examples.

A run is the predictions of one model. Every run is scored on the same resamples of the examples, in one matrix
product, and only the covariances of the scores are kept: the memory does not grow with the resamples.

An interval of a mean over S seeds is value ± sqrt(t² s²/S + z² V). s² is the variance between seeds, which contains the
noise of examples that seeds do not share; t is the quantile of Student's t for S - 1 degrees of freedom. V is the rest
of the bootstrap's variance over examples; z is the quantile for that many examples. Where few examples have a label,
resamples vary less than samples do, so the variance of a difference is at least that of exchanged predictions.

Simulated with normal noise, at most 5, 0.5 and 0.2 % of equal systems differ at these levels with 2, 3 and 5 seeds. By
Satterthwaite's degrees of freedom 13, 8 and 6 % differ at 5 %; when seeds and examples are resampled 40, 25 and 15 %;
with that variance times S / (S - 1) 30, 19 and 12 %. `tests/benchmarks/comparing.py` repeats this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.evaluation.arrays import Array, BoolArray, FloatArray, IntArray, LabelledScores
from trainer.evaluation.averages import labels_and_average
from trainer.evaluation.metrics import check_predictions
from trainer.evaluation.resampling import Resampling, resamples, sum_by_group

__all__ = ["Estimate", "RunCounts", "ScoreDraws", "pooled_variance"]

_SMALLEST_P = 1e-12


@dataclass(frozen=True)
class RunCounts:
    """What the scores of r runs need of each unit (example or group), in float64."""

    true_positives: FloatArray
    """(units, r, k)."""
    predicted: FloatArray
    """(units, r, k)."""
    positives: FloatArray
    """(units, k)."""
    scored: BoolArray
    """Labels that macro averages run over, (k,)."""

    @classmethod
    def of(cls, scores: LabelledScores, predictions: Sequence[BoolArray], groups: IntArray | None = None) -> RunCounts:
        """Count the predictions (n, k) of each run; groups: (n,), examples with the same number are drawn together."""
        for one in predictions:
            check_predictions(scores, one)
        predicted = [one & scores.observed for one in predictions]
        hits = [one & scores.positives for one in predicted]

        def summed(tables: Sequence[BoolArray]) -> FloatArray:
            sums = sum_by_group(np.concatenate(tables, axis=1), groups)
            return sums.reshape(len(sums), len(tables), scores.num_labels)

        return cls(summed(hits), summed(predicted), summed([scores.positives])[:, 0], scores.scored)

    def weighted(self, weights: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return true positives, predictions and positives of the first run in each resample, all (c, k)."""
        return weights @ self.true_positives[:, 0], weights @ self.predicted[:, 0], weights @ self.positives

    def of_runs(self, runs: Sequence[int]) -> RunCounts:
        """Return the counts of some runs."""
        return RunCounts(self.true_positives[:, runs], self.predicted[:, runs], self.positives, self.scored)

    def scores(self, metric: str, tp: FloatArray, predicted: FloatArray, positives: FloatArray) -> FloatArray:
        """Return the scores by label and last their average, (..., k + 1), of counts that broadcast to (..., k)."""
        return labels_and_average(metric, self.scored, tp, predicted, positives)

    def point(self, metric: str) -> FloatArray:
        """Return the scores of the examples as they are, (r, k + 1)."""
        return self.scores(metric, self.true_positives.sum(0), self.predicted.sum(0), self.positives.sum(0))


@dataclass(frozen=True)
class ScoreDraws:
    """Scores of r runs by label and last their average, with the covariances that resampled examples give them."""

    point: FloatArray
    """(r, k + 1)."""
    covariance: FloatArray
    """(k + 1, r, r)."""
    num_units: int

    @classmethod
    def of(cls, counts: RunCounts, metric: str, resampling: Resampling) -> ScoreDraws:
        """Score all runs on the same resamples."""
        units, runs, labels = counts.true_positives.shape
        # Sums of counts are whole numbers below 2 ** 24, which float32 holds exactly.
        dtype: type[np.floating] = np.float32 if counts.predicted.sum(0).max() + units < 2**22 else np.float64
        blocks = (counts.true_positives.reshape(units, -1), counts.predicted.reshape(units, -1), counts.positives)
        table: Array = np.concatenate(blocks, axis=1).astype(dtype)
        point = counts.point(metric)
        total, squares, drawn = np.zeros(point.shape), np.zeros((labels + 1, runs, runs)), 0
        for weights in resamples(units, resampling, table.shape[1]):
            sums = (weights.astype(dtype) @ table).astype(np.float64)
            tp, predicted, positives = np.split(sums, (runs * labels, 2 * runs * labels), axis=1)
            shape = (len(sums), runs, labels)
            scores = counts.scores(metric, tp.reshape(shape), predicted.reshape(shape), positives[:, None])
            moved = (scores - point).transpose(2, 1, 0)  # near 0, so that squares keep their precision
            total += moved.sum(axis=2).T
            squares += moved @ moved.transpose(0, 2, 1)
            drawn += len(sums)
        mean = (total / drawn).T
        covariance = squares / drawn - mean[:, :, None] * mean[:, None, :]
        # A sample of n units has (n - 1) / n of the population's variance.
        return cls(point, covariance * units / max(units - 1, 1), units)

    def mean(self, runs: Sequence[int], column: int = -1) -> Estimate:
        """Return the mean score over runs of one system that differ in their seed; column: a label, -1 the average."""
        chosen = np.ix_(runs, runs)
        return Estimate.of(self.point[runs, column], self.covariance[column][chosen], self.num_units)

    def difference(
        self, first: Sequence[int], second: Sequence[int], column: int = -1, exchanged: FloatArray | None = None
    ) -> Estimate:
        """Return the mean of first minus second; the runs at the same place have the same seed.

        exchanged: (k + 1, S, S), covariances that replace the bootstrap's where their mean is larger.
        """
        covariance = self.covariance[column]
        crossed = covariance[np.ix_(first, second)]
        between = covariance[np.ix_(first, first)] + covariance[np.ix_(second, second)] - crossed - crossed.T
        if exchanged is not None and exchanged[column].mean() > between.mean():
            between = exchanged[column]
        return Estimate.of(self.point[first, column] - self.point[second, column], between, self.num_units)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its standard errors."""

    by_seed: FloatArray
    """(S,)."""
    examples_error: float
    """Standard error over examples; with several seeds only that of the noise which they share."""
    seeds_error: float
    """Standard error over seeds, which S - 1 degrees of freedom estimate; 0 with one seed."""
    num_units: int

    @classmethod
    def of(cls, by_seed: FloatArray, covariance: FloatArray, num_units: int) -> Estimate:
        """Return the estimate from the scores (S,) and their covariance over examples, (S, S)."""
        seeds, examples = len(by_seed), max(float(covariance.mean()), 0.0)
        if seeds == 1:
            return cls(by_seed, examples**0.5, 0.0, num_units)
        unshared = max(float(np.diag(covariance).mean()) - examples, 0.0) / (seeds - 1)
        return cls(by_seed, max(examples - unshared, 0.0) ** 0.5, (by_seed.var(ddof=1) / seeds) ** 0.5, num_units)

    @classmethod
    def over_seeds(cls, by_seed: FloatArray) -> Estimate:
        """Return the estimate from scores (S,) alone, without the noise of examples."""
        return cls.of(by_seed, np.zeros((len(by_seed), len(by_seed))), 1)

    @property
    def value(self) -> float:
        """The mean over seeds."""
        return float(self.by_seed.mean())

    def with_variance(self, between_seeds: float) -> Estimate:
        """Return the estimate with this variance between seeds, which one with one seed does not have."""
        seeds = len(self.by_seed)
        return replace(self, seeds_error=(between_seeds / seeds) ** 0.5) if seeds > 1 else self

    def interval(self, level: float) -> tuple[float, float]:
        """Return the low and high end."""
        half = self._half_width((1.0 - level) / 2.0)
        return self.value - half, self.value + half

    @property
    def p_value(self) -> float:
        """Two-sided p-value of the mean 0: the level at which an end of the interval is 0; at least 1e-12."""
        from scipy.optimize import brentq

        if self.value == 0.0:
            return 1.0
        if self._half_width(_SMALLEST_P / 2.0) <= abs(self.value):
            return _SMALLEST_P

        def excess(exponent: float) -> float:
            return self._half_width(np.exp(exponent) / 2.0) - abs(self.value)

        return float(np.exp(brentq(excess, np.log(_SMALLEST_P), 0.0)))

    def detectable(self, alpha: float, power: float = 0.8) -> float:
        """Return about the smallest true mean whose p-value is below alpha with this probability."""
        from scipy.special import nctdtrinc

        # Of each source alone this noncentrality has the power exactly.
        shifts = [nctdtrinc(degrees, 1.0 - power, -self._quantile(degrees, alpha / 2.0)) for degrees in self._degrees]
        return float(np.hypot(shifts[0] * self.examples_error, shifts[1] * self.seeds_error))

    def effect_size(self, level: float) -> tuple[float, float, float] | None:
        """Return the mean divided by the standard deviation over seeds, low and high; None without a deviation.

        The interval holds the noncentral t whose tails contain the measured t.
        Source: Cumming & Finch 2001, https://doi.org/10.1177/0013164401614002.
        """
        from scipy.special import nctdtrinc

        seeds = len(self.by_seed)
        deviation = float(self.by_seed.std(ddof=1)) if seeds > 1 else 0.0
        if deviation < 1e-12:
            return None
        root, tail = seeds**0.5, (1.0 - level) / 2.0
        size = self.value / deviation
        low, high = (float(nctdtrinc(seeds - 1, p, size * root)) / root for p in (1.0 - tail, tail))
        return size, low, high

    @property
    def _degrees(self) -> tuple[int, int]:
        return max(self.num_units - 1, 1), max(len(self.by_seed) - 1, 1)

    def _half_width(self, tail: float) -> float:
        examples, seeds = (self._quantile(degrees, tail) for degrees in self._degrees)
        return float(np.hypot(examples * self.examples_error, seeds * self.seeds_error))

    @staticmethod
    def _quantile(degrees: int, tail: float) -> float:
        from scipy.special import stdtrit  # slow to import

        return float(stdtrit(degrees, tail))


def pooled_variance(estimates: Sequence[Estimate]) -> tuple[float, int]:
    """Return the variance between seeds, pooled over the estimates, and its degrees of freedom; 0 and 0 without any."""
    several = [one.by_seed for one in estimates if len(one.by_seed) > 1]
    degrees = sum(len(one) - 1 for one in several)
    return (float(sum(one.var() * len(one) for one in several)) / degrees if degrees else 0.0), degrees
