"""Average precision, calibration error and Brier score of many resamples of the examples of one run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.evaluation.arrays import Array, FloatArray, IntArray, LabelledScores
from trainer.evaluation.calibration import NUM_BINS, bin_numbers
from trainer.evaluation.metrics import ratio

__all__ = ["PROBABILITY_METRICS", "ResampledProbabilities"]

PROBABILITY_METRICS = ("macro_ap", "ece", "brier")


@dataclass(frozen=True)
class ResampledProbabilities:
    """The cells of one run, sorted and binned once for all resamples."""

    examples: list[IntArray]
    """For each label with a positive the example of each cell, best score first."""
    positives: list[IntArray]
    """Places of the positives in it."""
    ends: list[IntArray]
    """For each of them the last place with the same score."""
    bins: FloatArray
    """Sums of probability, label and cells of each example by bin, then its squared errors and cells: (n, columns)."""

    @classmethod
    def of(cls, scores: LabelledScores) -> "ResampledProbabilities":
        """Sort and bin the cells of a run."""
        columns = [label for label in range(scores.num_labels) if scores.support[label]]
        seen = scores.observed
        at = np.broadcast_to(np.arange(scores.num_examples)[:, None], seen.shape)
        sets = [
            (at[seen[:, j], j], scores.probabilities[seen[:, j], j], scores.positives[seen[:, j], j]) for j in columns
        ]
        ranked = [_sort(*one) for one in sets]
        examples, positives, ends = ([one[place] for one in ranked] for place in range(3))
        return cls(examples, positives, ends, _binned(scores))

    def scores(self, weights: FloatArray) -> FloatArray:
        """Return PROBABILITY_METRICS of each resample, (resamples, 3). weights: (n, resamples)."""
        precision = [self._average_precision(label, weights) for label in range(len(self.examples))]
        sums = self.bins.T @ weights
        probability, label, cells = np.split(sums[:-2], 3)
        ece = np.abs(probability - label).sum(axis=0) / cells.sum(axis=0)
        return np.stack([_mean_of_defined(precision, weights.shape[1]), ece, sums[-2] / sums[-1]], axis=1)

    def _average_precision(self, label: int, weights: FloatArray) -> FloatArray:
        """Return average precision of one label in each resample, NaN where no positive is drawn."""
        examples, positives = self.examples[label], self.positives[label]
        ends, group = np.unique(self.ends[label], return_inverse=True)
        starts = np.concatenate([[0], ends[:-1] + 1])
        # Rows of resamples: sums over examples then run through memory in its order.
        predicted = np.cumsum(np.add.reduceat(weights[examples[: ends[-1] + 1]], starts, axis=0), axis=0)
        drawn = weights[examples[positives]]
        hits = np.cumsum(np.add.reduceat(drawn, np.unique(group, return_index=True)[1], axis=0), axis=0)
        averages = ratio((drawn * ratio(hits, predicted)[group]).sum(axis=0), hits[-1])
        return np.where(hits[-1] > 0, averages, np.nan)


def _mean_of_defined(columns: Sequence[FloatArray], length: int) -> FloatArray:
    """Return the mean over the labels where it is defined, (length,); NaN without any."""
    values = np.stack([np.full(length, np.nan), *columns])
    defined = np.isfinite(values)
    mean: FloatArray = np.where(defined, values, 0.0).sum(axis=0) / np.where(
        defined.any(axis=0), defined.sum(axis=0), np.nan
    )
    return mean


def _sort(examples: IntArray, scores: FloatArray, positives: Array) -> tuple[IntArray, IntArray, IntArray]:
    order = np.argsort(-scores, kind="stable")
    ranked = -scores[order]
    places = np.flatnonzero(positives[order])
    return examples[order], places, np.searchsorted(ranked, ranked[places], side="right") - 1


def _binned(scores: LabelledScores) -> FloatArray:
    n, seen = scores.num_examples, scores.observed
    example = np.broadcast_to(np.arange(n)[:, None], seen.shape)[seen]
    cell = example * NUM_BINS + bin_numbers(scores.probabilities[seen])
    sums = [
        np.bincount(cell, weight, n * NUM_BINS).reshape(n, NUM_BINS)
        for weight in (scores.probabilities[seen], scores.labels[seen], np.ones(len(cell)))
    ]
    errors = np.bincount(example, np.square(scores.probabilities - scores.labels)[seen], n)
    return np.column_stack([*sums, errors, np.bincount(example, minlength=n)])
