"""Draws of F1, precision and recall from the Bayesian bootstrap, for intervals that few positives do not narrow.

Examples are weighted exponentially (Rubin 1981, https://doi.org/10.1214/aos/1176345338), so labels that occur together
vary together. Draws for lower ends suppose half an error more for each label than was seen, those for upper ends half a
true positive more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.evaluation.arrays import BoolArray, FloatArray
from trainer.evaluation.metrics import ratio
from trainer.evaluation.paired import Estimate, RunCounts
from trainer.evaluation.resampling import Resampling, chunks

__all__ = ["PosteriorDraws", "mean_interval", "metric_interval", "metric_intervals", "posterior_draws"]


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
        return posterior_draws(counts, (kind,), resampling)[kind]

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


def posterior_draws(counts: RunCounts, kinds: Sequence[str], resampling: Resampling) -> dict[str, PosteriorDraws]:
    """Return the draws of each kind, f1, precision or recall, of a single run: all with the same weights."""
    generator = np.random.default_rng([resampling.seed, 0])
    # Not the generator of the weights: the size of chunks would change the draws.
    priors = {kind: np.random.default_rng([resampling.seed, 1]) for kind in kinds}
    units, labels = counts.positives.shape
    parts: dict[str, list[tuple[FloatArray, FloatArray, FloatArray]]] = {kind: [] for kind in kinds}
    for size in chunks(max(units, labels), resampling):
        sums = counts.weighted(generator.standard_exponential((size, units)))
        for kind in kinds:
            parts[kind].append((*_ends(kind, sums, priors[kind]), sums[2]))
    support = counts.positives.sum(axis=0)
    found = {}
    for kind, drawn in parts.items():
        lower, upper, positives = (np.concatenate(part) for part in zip(*drawn, strict=True))
        # F1 and recall of a label without a positive say nothing, precision of one that is never predicted neither.
        defined = (counts.predicted.sum(axis=(0, 1)) if kind == "precision" else support) > 0
        found[kind] = PosteriorDraws(lower, upper, positives, defined, resampling.level)
    return found


def metric_interval(counts: RunCounts, metric: str, resampling: Resampling) -> tuple[float, float]:
    """Return the interval of one average of a single run; metric: a name in METRICS of `averages`."""
    return metric_intervals(counts, (metric,), resampling)[metric]


def metric_intervals(
    counts: RunCounts, metrics: Sequence[str], resampling: Resampling
) -> dict[str, tuple[float, float]]:
    """Return the intervals of several averages of a single run; metrics: names in METRICS of `averages`."""
    kinds = tuple(dict.fromkeys(metric.partition("_")[2] for metric in metrics))
    draws = posterior_draws(counts, kinds, resampling)
    found = {}
    for metric in metrics:
        over, _, kind = metric.partition("_")
        one = draws[kind]
        if over == "micro":
            found[metric] = one.label(-1)
        else:
            found[metric] = one.macro(counts.scored) if over == "macro" else one.weighted()
    return found


def mean_interval(ends: Sequence[tuple[float, float]], found: Estimate, level: float) -> tuple[float, float]:
    """Return the mean of the intervals of single runs, one for each seed, widened by the variance between seeds."""
    low, high = np.mean(ends, axis=0)
    seeds = found.value - replace(found, examples_error=0.0).interval(level)[0]
    centre = min(max(found.value, low), high)  # a basic interval corrects a biased score and may lie beside it
    return (
        min(max(centre - float(np.hypot(centre - low, seeds)), 0.0), 1.0),
        min(max(centre + float(np.hypot(high - centre, seeds)), 0.0), 1.0),
    )


def _ends(
    kind: str, sums: tuple[FloatArray, FloatArray, FloatArray], priors: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return draws for the lower and the upper ends from weighted true positives, predictions and positives."""
    hits = 2 if kind == "f1" else 1  # of a true positive in the denominator, and in the numerator
    tp, predicted, positives = sums
    cells = _cells(kind, predicted, positives)
    tp, cells = (np.column_stack([one, one.sum(axis=1)]) for one in (tp, cells))
    half = priors.standard_gamma(0.5, tp.shape)  # n exponential weights add up to Gamma(n): this is half a case
    return hits * tp / (cells + half), hits * (tp + half) / (cells + hits * half)


def _cells(kind: str, predicted: FloatArray, positives: FloatArray) -> FloatArray:
    if kind == "f1":
        return predicted + positives
    return predicted if kind == "precision" else positives
