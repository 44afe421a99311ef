"""Headline scores of resampled examples, and their bootstrap intervals."""

from __future__ import annotations

from typing import Literal

import numpy as np

from trainer.evaluation.arrays import Array, BoolArray, FloatArray, IntArray, LabelledScores
from trainer.evaluation.averages import METRICS, average, by_label
from trainer.evaluation.bayesian import PosteriorDraws
from trainer.evaluation.calibration import NUM_BINS, bin_numbers
from trainer.evaluation.intervals import ResamplingMethod, Statistic, resampled_intervals
from trainer.evaluation.metrics import MIN_SUPPORT, ratio
from trainer.evaluation.paired import RunCounts
from trainer.evaluation.resampling import Resampling, group_numbers, sum_by_group

__all__ = ["DecisionStatistic", "F1Statistic", "headline_intervals"]


def headline_intervals(
    scores: LabelledScores,
    predictions: BoolArray,
    resampling: Resampling | None = None,
    *,
    method: ResamplingMethod | Literal["bayesian"] = "bayesian",
    groups: IntArray | None = None,
) -> dict[str, tuple[float, float]]:
    """Return the interval (low, high) by name of every score that has one, each within [0, 1].

    {macro,micro,weighted}_{f1,precision,recall}, macro_f1_supported where a label has MIN_SUPPORT positives, macro_ap
    where a label has a positive, ece and brier. scores: probabilities. predictions: (n, k).
    Scores without threshold have no Bayesian interval and then have the basic one. ece always has it: resampling adds
    as much noise to its bins as sampling did.
    """
    resampling = resampling or Resampling()
    counts, supported = RunCounts.of(scores, [predictions], groups), scores.support >= MIN_SUPPORT
    units = len(counts.positives)
    if method == "bayesian":
        found, method = _bayesian(counts, supported, resampling), "basic"
    else:
        decisions = DecisionStatistic(counts, supported)
        found = _named(decisions.names, resampled_intervals(decisions, units, method, resampling))
    found |= _named(("brier",), resampled_intervals(_brier(scores, groups), units, method, resampling))
    errors = _calibration_errors(scores, groups)
    found |= _named(("ece",), resampled_intervals(errors, units, "basic", resampling))
    if scores.support.any():
        precisions = _average_precisions(scores, groups)
        found |= _named(("macro_ap",), resampled_intervals(precisions, units, method, resampling))
    return found


def _bayesian(counts: RunCounts, supported: BoolArray, resampling: Resampling) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for kind in ("f1", "precision", "recall"):
        draws = PosteriorDraws.of(counts, kind, resampling)
        found |= {
            f"macro_{kind}": draws.macro(counts.scored),
            f"micro_{kind}": draws.label(-1),
            f"weighted_{kind}": draws.weighted(),
        }
        if kind == "f1" and supported.any():
            found["macro_f1_supported"] = draws.macro(supported)
    return found


class F1Statistic:
    """Scores the F1 of each label of a single run, and then `names`, (c, k + names)."""

    def __init__(self, counts: RunCounts, supported: BoolArray) -> None:
        self.counts, self._supported = counts, supported
        self.names = ("macro_f1", "micro_f1", *(["macro_f1_supported"] if supported.any() else []))
        self.num_units = len(counts.positives)

    def __call__(self, weights: FloatArray) -> FloatArray:
        """Return the scores of each resample."""
        sums = self.counts.weighted(weights)
        labels = by_label("f1", *sums)
        averages = [average(name, self.counts.scored, *sums) for name in self.names[:2]]
        supported = [labels[:, self._supported].mean(axis=1)] if self._supported.any() else []
        return np.column_stack([labels, *averages, *supported])


class DecisionStatistic:
    """Scores the predictions of a single run: `names`, (c, names)."""

    def __init__(self, counts: RunCounts, supported: BoolArray) -> None:
        self.counts, self._supported = counts, supported
        self.names = (*METRICS, *(["macro_f1_supported"] if supported.any() else []))

    def __call__(self, weights: FloatArray) -> FloatArray:
        """Return the scores of each resample."""
        sums = self.counts.weighted(weights)
        values = [average(name, self.counts.scored, *sums) for name in METRICS]
        if self._supported.any():
            values.append(average("macro_f1", self._supported, *sums))
        return np.column_stack(values)


def _calibration_errors(scores: LabelledScores, groups: IntArray | None) -> Statistic:
    """Return what computes `expected_calibration_error`, (c, 1)."""
    examples, _ = np.nonzero(scores.observed)
    probabilities, labels = scores.probabilities[scores.observed], scores.labels[scores.observed]
    places = examples * NUM_BINS + bin_numbers(probabilities)
    gaps = np.bincount(places, probabilities - labels, scores.num_examples * NUM_BINS).reshape(-1, NUM_BINS)
    bins, cells = sum_by_group(gaps, groups), _cells(scores, groups)
    return lambda weights: ratio(np.abs(weights @ bins).sum(axis=1, keepdims=True), weights @ cells)


def _brier(scores: LabelledScores, groups: IntArray | None) -> Statistic:
    """Return what computes `brier_score`, (c, 1)."""
    squares = np.where(scores.observed, scores.probabilities - scores.labels, 0.0) ** 2
    sums, cells = sum_by_group(squares.sum(axis=1, keepdims=True), groups), _cells(scores, groups)
    return lambda weights: ratio(weights @ sums, weights @ cells)


def _cells(scores: LabelledScores, groups: IntArray | None) -> FloatArray:
    return sum_by_group(scores.observed.sum(axis=1, keepdims=True), groups)


def _average_precisions(scores: LabelledScores, groups: IntArray | None) -> Statistic:
    """Return what computes `macro_average_precision`, (c, 1): over the labels with a positive in the resample."""
    members = None if groups is None else group_numbers(groups)
    columns = [_Ranking(scores, label) for label in np.flatnonzero(scores.support > 0).tolist()]

    def scored(weights: FloatArray) -> FloatArray:
        counts = weights if members is None else weights[:, members]
        by_label = np.stack([column.average_precision(counts) for column in columns])
        defined = np.isfinite(by_label)
        means = ratio(np.where(defined, by_label, 0.0).sum(axis=0), defined.sum(axis=0))
        return np.where(defined.any(axis=0), means, np.nan)[:, None]

    return scored


class _Ranking:
    """The observed examples of a label by falling score."""

    def __init__(self, scores: LabelledScores, label: int) -> None:
        seen = np.flatnonzero(scores.observed[:, label])
        column = scores.probabilities[seen, label]
        order = np.argsort(-column, kind="stable")
        self._examples, falling = seen[order], -column[order]
        self._hits = np.flatnonzero(scores.positives[self._examples, label])
        # Of equal scores all count as predicted together: up to the last of them.
        self._last = np.searchsorted(falling, falling[self._hits], side="right") - 1
        self._last_hit = np.searchsorted(self._hits, self._last, side="right") - 1

    def average_precision(self, counts: Array) -> FloatArray:
        """Return the average precision of each resample (c, n), NaN without a positive in it, (c,)."""
        drawn = counts[:, self._examples]
        hits = drawn[:, self._hits]
        predicted = np.cumsum(drawn, axis=1)[:, self._last]
        precision = ratio(np.cumsum(hits, axis=1)[:, self._last_hit], predicted)
        positives = hits.sum(axis=1)
        return np.where(positives > 0, ratio((precision * hits).sum(axis=1), positives), np.nan)


def _named(names: tuple[str, ...], ends: tuple[FloatArray, FloatArray]) -> dict[str, tuple[float, float]]:
    pairs = zip(names, *ends, strict=True)
    return {name: (max(float(low), 0.0), min(float(high), 1.0)) for name, low, high in pairs}
