"""Paired permutation: two systems exchange their predictions of whole examples, as if both were the same system.

Source: Yeh 2000, https://aclanthology.org/C00-2137.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.evaluation.arrays import Array, FloatArray
from trainer.evaluation.paired import RunCounts
from trainer.evaluation.resampling import Resampling, chunks

__all__ = ["Exchange"]


@dataclass(frozen=True)
class Exchange:
    """What exchanges of units (examples or groups) do to the difference between two systems of S runs each."""

    p_value: float
    """Two-sided, of the mean difference over seeds, which are taken as they are."""
    covariance: FloatArray
    """Of the differences by seed, for each label and last their average, (k + 1, S, S)."""

    @classmethod
    def of(
        cls, counts: RunCounts, first: Sequence[int], second: Sequence[int], metric: str, resampling: Resampling
    ) -> Exchange:
        """Exchange the runs of both systems; all runs of a unit are exchanged together.

        p is exact where the units with different predictions allow no more exchanges than resamples; otherwise
        (1 + r) / (1 + R), never 0.
        """
        a, b = counts.of_runs(first), counts.of_runs(second)
        apart = np.stack([b.true_positives - a.true_positives, b.predicted - a.predicted], axis=1)
        differs = np.flatnonzero(apart.any(axis=(1, 2, 3)))
        squares = np.zeros((counts.positives.shape[1] + 1, len(first), len(first)))
        if not len(differs):
            return cls(1.0, squares)
        moved: Array = apart[differs].reshape(len(differs), -1).astype(np.float32)  # whole numbers: exact below 2 ** 24
        totals = [one.sum(axis=0) for one in (a.true_positives, a.predicted, b.true_positives, b.predicted)]
        positives = counts.positives.sum(axis=0)
        measured = abs(float((a.point(metric) - b.point(metric))[:, -1].mean())) - 1e-12  # equal up to rounding
        reached, number = 0, 0
        exact = 2 ** len(differs) <= resampling.num_resamples
        for exchanged in _all(len(differs)) if exact else _random(len(differs), moved.shape[1], resampling):
            tp, predicted = np.moveaxis((exchanged @ moved).reshape(len(exchanged), 2, len(first), -1), 1, 0)
            ours = counts.scores(metric, totals[0] + tp, totals[1] + predicted, positives)
            gaps = (ours - counts.scores(metric, totals[2] - tp, totals[3] - predicted, positives)).transpose(2, 1, 0)
            squares += gaps @ gaps.transpose(0, 2, 1)
            reached += int((np.abs(gaps[-1].mean(axis=0)) >= measured).sum())
            number += len(exchanged)
        return cls((reached if exact else 1 + reached) / (number if exact else 1 + number), squares / number)


def _all(num_units: int) -> Iterator[Array]:
    """Yield every exchange once, (2 ** units, units)."""
    yield ((np.arange(2**num_units)[:, None] >> np.arange(num_units)) & 1).astype(np.float32)


def _random(num_units: int, width: int, resampling: Resampling) -> Iterator[Array]:
    """Yield which units are exchanged, (chunk, units)."""
    generator = np.random.default_rng([resampling.seed, 2])
    for size in chunks(max(num_units, width), resampling):
        yield generator.integers(0, 2, (size, num_units), np.uint8).astype(np.float32)
