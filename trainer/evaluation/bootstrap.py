"""Bootstrap over rows: how far F1 could move on another test set of this size, and whether two models differ.

Rows are drawn with replacement, whole, so labels that go together stay together. Intervals are percentile intervals
(Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13). F1 of 0/0 in a resample is 0, as everywhere, which
keeps intervals of very rare labels honestly wide downward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from trainer.core.errors import SettingsError
from trainer.evaluation.arrays import BoolArray, FloatArray, LabelledScores
from trainer.evaluation.metrics import MIN_SUPPORT, check_predictions, ratio

__all__ = ["F1Intervals", "Interval", "PairedDifference", "Resampling", "bootstrap_intervals", "paired_bootstrap"]

Interval: TypeAlias = tuple[float, float]
_CHUNK_CELLS = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How to draw resamples and how wide to make intervals."""

    num_resamples: int = 1000
    """Resamples to draw."""
    seed: int = 0
    """Seed of the draws; the same seed and row count draw the same rows."""
    level: float = 0.95
    """Share of resamples inside an interval, between 0 and 1."""

    def __post_init__(self) -> None:
        if self.num_resamples < 1:
            raise SettingsError(f"`num_resamples` must be at least 1, got {self.num_resamples}.")
        if not 0.0 < self.level < 1.0:
            raise SettingsError(f"`level` must lie between 0 and 1, got {self.level}.")


@dataclass(frozen=True)
class F1Intervals:
    """Percentile intervals of F1 scores, each (low, high)."""

    headline: dict[str, Interval]
    """macro_f1, micro_f1, and macro_f1_supported if any label has MIN_SUPPORT positives."""
    per_label: tuple[Interval | None, ...]
    """F1 of each label in order; None for a label without an observed cell."""


@dataclass(frozen=True)
class PairedDifference:
    """Macro-F1 of a minus macro-F1 of b on the same rows."""

    difference: float
    """On the rows as they are."""
    low: float
    """Lower end of the percentile interval."""
    high: float
    """Upper end of the percentile interval."""
    p_value: float
    """Two-sided: twice the share of resamples on the rarer side of zero, never exactly 0."""
    per_label: tuple[tuple[float, float, float] | None, ...]
    """Difference in F1 of each label in order, low and high; None for a label without an observed cell."""


def bootstrap_intervals(
    scores: LabelledScores, predictions: BoolArray, resampling: Resampling | None = None
) -> F1Intervals:
    """Return percentile intervals of F1 over resampled examples; predictions: (n, k).

    The labels of macro_f1_supported are fixed by the examples as they are. Memory stays bounded whatever n is.
    Source: Efron & Tibshirani 1993, ch. 13.
    """
    resampling = resampling or Resampling()
    hits = _Hits.of(scores, predictions)
    supported, scored = scores.support >= MIN_SUPPORT, scores.scored
    by_label, micro = [], []
    for counts in _resamples(scores.num_examples, resampling):
        tp, sizes = hits.weighted(counts)
        by_label.append(ratio(2 * tp, sizes))
        micro.append(ratio(2 * tp.sum(axis=1), sizes.sum(axis=1)))
    f1 = np.concatenate(by_label)
    headline = {
        "macro_f1": _interval(f1[:, scored].mean(axis=1), resampling.level),
        "micro_f1": _interval(np.concatenate(micro), resampling.level),
    }
    if supported.any():
        headline["macro_f1_supported"] = _interval(f1[:, supported].mean(axis=1), resampling.level)
    per_label = tuple(_interval(f1[:, j], resampling.level) if scored[j] else None for j in range(f1.shape[1]))
    return F1Intervals(headline, per_label)


def paired_bootstrap(
    scores: LabelledScores,
    predictions_a: BoolArray,
    predictions_b: BoolArray,
    resampling: Resampling | None = None,
) -> PairedDifference:
    """Return the difference in macro-F1, a minus b, with interval and p-value over the same resampled examples.

    predictions: (n, k), of the examples whose labels `scores` has. p = min(1, 2 * (1 + r) / (1 + R)) with r the fewer
    of the resamples at or below zero and at or above it: it falls under 1 - level when the interval leaves zero out, up
    to the added one.
    Source: Efron & Tibshirani 1993, ch. 13 and 15; the added one: Davison & Hinkley 1997, sec. 4.2.
    """
    resampling = resampling or Resampling()
    hits_a, hits_b = _Hits.of(scores, predictions_a), _Hits.of(scores, predictions_b)
    scored = scores.scored

    def gaps(counts: FloatArray) -> FloatArray:
        return hits_a.f1(counts) - hits_b.f1(counts)

    point = gaps(np.ones((1, scores.num_examples)))[0]
    by_label = np.concatenate([gaps(counts) for counts in _resamples(scores.num_examples, resampling)])
    drawn = by_label[:, scored].mean(axis=1)
    low, high = _interval(drawn, resampling.level)
    fewer = min(int((drawn <= 0.0).sum()), int((drawn >= 0.0).sum()))
    p_value = min(1.0, 2.0 * (1 + fewer) / (1 + len(drawn)))
    per_label = tuple(
        (float(point[j]), *_interval(by_label[:, j], resampling.level)) if scored[j] else None
        for j in range(len(scored))
    )
    return PairedDifference(float(point[scored].mean()), low, high, p_value, per_label)


@dataclass(frozen=True)
class _Hits:
    """What F1 needs of each cell, as float64 (n, k): 2 tp / sizes with sizes = predicted + positive."""

    true_positives: FloatArray
    sizes: FloatArray

    @classmethod
    def of(cls, scores: LabelledScores, predictions: BoolArray) -> _Hits:
        check_predictions(scores, predictions)
        predicted = predictions & scores.observed
        sizes = predicted.astype(np.float64) + scores.positives
        return cls((predicted & scores.positives).astype(np.float64), sizes)

    def weighted(self, counts: FloatArray) -> tuple[FloatArray, FloatArray]:
        """True positives and sizes by label of each resample, both (resamples, k)."""
        return counts @ self.true_positives, counts @ self.sizes

    def f1(self, counts: FloatArray) -> FloatArray:
        """F1 by label of each resample, (resamples, k)."""
        true_positives, sizes = self.weighted(counts)
        return ratio(2 * true_positives, sizes)


def _resamples(num_rows: int, resampling: Resampling) -> Iterator[FloatArray]:
    """Yield how often each row is drawn, (chunk, n) until num_resamples are done; chunks do not change the draws."""
    generator = np.random.default_rng(resampling.seed)
    chunk = max(1, _CHUNK_CELLS // num_rows)
    for start in range(0, resampling.num_resamples, chunk):
        size = min(chunk, resampling.num_resamples - start)
        drawn = generator.integers(num_rows, size=(size, num_rows)) + num_rows * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * num_rows).reshape(size, num_rows).astype(np.float64)


def _interval(values: FloatArray, level: float) -> Interval:
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(values, (tail, 1.0 - tail))
    return float(low), float(high)
