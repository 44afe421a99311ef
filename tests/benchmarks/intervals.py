"""Coverage of the intervals of F1: the percentage of intervals that contain the value of the sampled population.

The populations have 28 labels at the frequencies of GoEmotions' test split. Their models are simulated: one has an F1
between 0.15 and 0.85 by label, one never predicts rare labels, one has recall and precision of about 0.9 for all.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from tests.benchmarks.common.tables import Row, Table
from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.averages import METRICS, average
from trainer.evaluation.bootstrap import Resampling, bootstrap_intervals
from trainer.evaluation.exchange import Exchange
from trainer.evaluation.intervals import RESAMPLING_METHODS
from trainer.evaluation.paired import RunCounts, ScoreDraws
from trainer.evaluation.resampled_scores import headline_intervals

__all__ = ["Population", "coverage", "measure", "method_coverage"]

# fmt: off
_POSITIVES = np.array([
    504, 264, 198, 320, 351, 135, 153, 284, 83, 151, 267, 123, 37, 103,
    78, 352, 6, 161, 238, 23, 186, 16, 145, 11, 56, 156, 141, 1787,
])
# fmt: on
_FREQUENCIES = _POSITIVES / 5427
_SIZES = (224, 1000, 5427)
_RESAMPLING = Resampling(num_resamples=400)


@dataclass(frozen=True)
class Population:
    """Frequency, recall and false positive rate of each label, (k,)."""

    frequencies: np.ndarray
    recalls: np.ndarray
    false_positive_rates: np.ndarray

    @classmethod
    def make(cls, seed, frequencies=_FREQUENCIES):
        rng = np.random.default_rng(seed)
        f1 = rng.uniform(0.15, 0.85, len(frequencies))
        recalls = np.clip(f1 * rng.uniform(0.7, 1.4, len(f1)), 0.05, 0.97)
        precisions = np.clip(f1 * recalls / np.maximum(2 * recalls - f1, 0.02), 0.05, 0.98)
        return cls(frequencies, recalls, frequencies * recalls * (1 / precisions - 1) / (1 - frequencies))

    @classmethod
    def blind_to_rare(cls, seed):
        """Return a model that never predicts a label of fewer than 2 % of the examples."""
        whole, rare = cls.make(seed), _FREQUENCIES < 0.02
        return cls(_FREQUENCIES, np.where(rare, 0.0, whole.recalls), np.where(rare, 0.0, whole.false_positive_rates))

    @classmethod
    def strong(cls):
        """Return a model that is as good for rare labels as for frequent ones."""
        return cls(_FREQUENCIES, np.full(len(_FREQUENCIES), 0.9), 0.15 * _FREQUENCIES)

    @property
    def f1(self):
        """F1 of each label in the population, (k,)."""
        tp, fp = self.frequencies * self.recalls, (1 - self.frequencies) * self.false_positive_rates
        return 2 * tp / (tp + fp + self.frequencies)

    def sample(self, rng, size):
        """Return scores with labels (n, k), and predictions (n, k), boolean."""
        labels = rng.random((size, len(self.frequencies))) < self.frequencies
        return as_scores(labels), self.predict(rng, labels)

    def predict(self, rng, labels):
        """Return the predictions (n, k) of a model with these rates; another call is another model."""
        return rng.random(labels.shape) < np.where(labels, self.recalls, self.false_positive_rates)


def as_scores(labels):
    return LabelledScores(
        label_names=tuple(map(str, range(labels.shape[1]))),
        scores=np.zeros(labels.shape),
        labels=labels,
        observed=np.ones(labels.shape, dtype=bool),
    )


def coverage(population, size, samples, *, seed=0, resampling=_RESAMPLING):
    """Return percentages of intervals: with the population's macro F1, F1 by label, and a paired difference of 0.

    Also the percentages of macro intervals above and below the population's value, and their mean width.
    """
    rng = np.random.default_rng(seed)
    truth, by_label = population.f1.mean(), population.f1
    macro, labels, paired = [], [], []
    for _ in range(samples):
        scores, predictions = population.sample(rng, size)
        intervals = bootstrap_intervals(scores, predictions, resampling)
        macro.append(intervals.headline["macro_f1"])
        labels += [
            low <= f1 <= high
            for f1, (low, high) in zip(by_label, (one or (0, 1) for one in intervals.per_label), strict=True)
        ]
        other = population.predict(rng, scores.positives)
        counts = RunCounts.of(scores, [predictions, other])
        exchanged = Exchange.of(counts, [0], [1], "macro_f1", resampling).covariance
        difference = ScoreDraws.of(counts, "macro_f1", resampling).difference([0], [1], -1, exchanged)
        paired.append(difference.p_value > 1 - resampling.level)
    low, high = np.array(macro).T
    return {
        "macro F1": 100 * np.mean((low <= truth) & (truth <= high)),
        "interval too high": 100 * np.mean(low > truth),
        "interval too low": 100 * np.mean(high < truth),
        "width": np.mean(high - low),
        "F1 by label": 100 * np.mean(labels),
        "paired difference": 100 * np.mean(paired),
    }


def method_coverage(population, size, samples, *, seed=0, resampling=_RESAMPLING):
    """Return percentage of intervals with the population's value, and their mean width, by method and score.

    Scores: `macro_f1` by every method, and the averages of precision and recall by the default.
    """
    rng = np.random.default_rng(seed)
    tp = population.frequencies * population.recalls
    predicted = tp + (1 - population.frequencies) * population.false_positive_rates
    scored = np.ones(len(tp), dtype=bool)
    truth = {name: float(average(name, scored, tp, predicted, population.frequencies)) for name in METRICS}
    found = defaultdict(list)
    for _ in range(samples):
        scores, predictions = population.sample(rng, size)
        for method in RESAMPLING_METHODS:
            low, high = bootstrap_intervals(scores, predictions, resampling, method=method).headline["macro_f1"]
            found[f"macro_f1, {method}"].append((low <= truth["macro_f1"] <= high, high - low))
        for name, (low, high) in headline_intervals(scores, predictions, resampling).items():
            if name in METRICS:
                found[f"{name}, bayesian"].append((low <= truth[name] <= high, high - low))
    return {name: (100 * float(np.mean(pairs, axis=0)[0]), np.mean(pairs, axis=0)[1]) for name, pairs in found.items()}


def measure(options):
    """Yield two tables per population, from 80 samples of each size per repetition, 30 of the largest size."""
    populations = {
        "a mixed model": Population.make(1),
        "a model blind to rare labels": Population.blind_to_rare(1),
        "a strong model": Population.strong(),
    }
    for name, population in populations.items():
        yield _table(name, population, options)
        yield _method_table(name, population, options)


def _table(name, population, options):
    rows = []
    for size in _SIZES[:1] if options.quick else _SIZES:
        samples = (80 if size < max(_SIZES) else 30) * options.repetitions
        percentages = coverage(population, size, samples)
        rows += [
            Row(measure=f"{measure}, n = {size:,}", ours=[float(value)], at_least=90 if "F1" in measure else None)
            for measure, value in percentages.items()
        ]
    title = f"intervals: % of nominal 95 % intervals that contain the population's value, {name}"
    return Table(title=title, rows=tuple(rows))


def _method_table(name, population, options):
    rows = []
    for size in _SIZES[:1] if options.quick else _SIZES:
        found = method_coverage(population, size, (40 if size < max(_SIZES) else 20) * options.repetitions)
        rows += [
            Row(measure=f"{score}, n = {size:,}: width {width:.3f}", ours=[percentage])
            for score, (percentage, width) in found.items()
        ]
    return Table(title=f"intervals: % of nominal 95 % intervals by method, {name}", rows=tuple(rows))
