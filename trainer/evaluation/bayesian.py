"""Draws of F1, precision and recall from the Bayesian bootstrap, for intervals that few positives do not narrow.

Examples are weighted exponentially (Rubin 1981, https://doi.org/10.1214/aos/1176345338), so labels that occur together
vary together. Draws for lower ends suppose half an error more for each label than was seen, those for upper ends half a
true positive more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.evaluation.arrays import BoolArray, FloatArray
from trainer.evaluation.metrics import ratio
from trainer.evaluation.paired import RunCounts
from trainer.evaluation.resampling import Resampling, chunks

__all__ = ["PosteriorDraws", "metric_interval"]


@dataclass(frozen=True)
class PosteriorDraws:
    """Draws of a score of each label and last of all labels pooled, (resamples, k + 1)."""

    lower: FloatArray
    upper: FloatArray
    positives: FloatArray
    """Weighted positives of each label, (resamples, k)."""
    defined: BoolArray
    """Labels whose score is not 0/0 by their own examples, (k,)."""
    level: float

    @classmethod
    def of(cls, counts: RunCounts, kind: str, resampling: Resampling) -> PosteriorDraws:
        """Draw f1, precision or recall of a single run."""
        generator = np.random.default_rng([resampling.seed, 0])
        # Not the generator of the weights: the size of chunks would change the draws.
        priors = np.random.default_rng([resampling.seed, 1])
        units, labels = counts.positives.shape
        hits = 2 if kind == "f1" else 1  # of a true positive in the denominator, and in the numerator
        parts = []
        for size in chunks(max(units, labels), resampling):
            weights = generator.standard_exponential((size, units))
            tp, predicted, positives = counts.weighted(weights)
            cells = _cells(kind, predicted, positives)
            tp, cells = (np.column_stack([sums, sums.sum(axis=1)]) for sums in (tp, cells))
            half = priors.standard_gamma(0.5, tp.shape)  # n exponential weights add up to Gamma(n): this is half a case
            parts.append((hits * tp / (cells + half), hits * (tp + half) / (cells + hits * half), positives))
        lower, upper, positives = (np.concatenate(part) for part in zip(*parts, strict=True))
        support = counts.positives.sum(axis=0)
        # F1 and recall of a label without a positive say nothing, precision of one that is never predicted neither.
        defined = (counts.predicted.sum(axis=(0, 1)) if kind == "precision" else support) > 0
        return cls(lower, upper, positives, defined, resampling.level)

    def label(self, label: int) -> tuple[float, float]:
        """Return the interval of one label, -1 for all pooled: of the micro average."""
        return self._interval(self.lower[:, label], self.upper[:, label])

    def macro(self, labels: BoolArray) -> tuple[float, float]:
        """Return the interval of the mean over these labels, (k,): undefined ones are 0 in its lower end alone."""
        present = labels & self.defined if self.defined.any() else labels
        return self._interval(
            self.lower[:, np.flatnonzero(labels)].mean(axis=1), self.upper[:, np.flatnonzero(present)].mean(axis=1)
        )

    def weighted(self) -> tuple[float, float]:
        """Return the interval of the mean weighted by the positives of each label."""
        total = self.positives.sum(axis=1)
        return self._interval(
            *(ratio((ends[:, :-1] * self.positives).sum(axis=1), total) for ends in (self.lower, self.upper))
        )

    def _interval(self, lower: FloatArray, upper: FloatArray) -> tuple[float, float]:
        tail = (1.0 - self.level) / 2.0
        return float(np.quantile(lower, tail)), float(np.quantile(upper, 1.0 - tail))


def metric_interval(counts: RunCounts, metric: str, resampling: Resampling) -> tuple[float, float]:
    """Return the interval of one average of a single run; metric: a name in METRICS of `averages`."""
    over, _, kind = metric.partition("_")
    draws = PosteriorDraws.of(counts, kind, resampling)
    if over == "micro":
        return draws.label(-1)
    return draws.macro(counts.scored) if over == "macro" else draws.weighted()


def _cells(kind: str, predicted: FloatArray, positives: FloatArray) -> FloatArray:
    if kind == "f1":
        return predicted + positives
    return predicted if kind == "precision" else positives
