"""Headline scores of resampled examples, and their bootstrap intervals."""

from __future__ import annotations

from typing import Literal

import numpy as np

from trainer.evaluation.arrays import BoolArray, FloatArray, IntArray, LabelledScores
from trainer.evaluation.averages import METRICS, average, by_label
from trainer.evaluation.bayesian import PosteriorDraws
from trainer.evaluation.intervals import ResamplingMethod, Statistic, resampled_intervals
from trainer.evaluation.metrics import MIN_SUPPORT
from trainer.evaluation.paired import RunCounts
from trainer.evaluation.resampled_probabilities import PROBABILITY_METRICS, ResampledProbabilities
from trainer.evaluation.resampling import Resampling, consecutive

__all__ = ["DecisionStatistic", "F1Statistic", "headline_intervals", "probability_statistic"]


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
    probabilities = probability_statistic(scores, groups)
    found |= _named(PROBABILITY_METRICS, resampled_intervals(probabilities, units, method, resampling))
    if method != "basic":
        found |= {
            "ece": _named(PROBABILITY_METRICS, resampled_intervals(probabilities, units, "basic", resampling))["ece"]
        }
    if not scores.support.any():
        del found["macro_ap"]
    return found


def probability_statistic(scores: LabelledScores, groups: IntArray | None) -> Statistic:
    """Return what computes PROBABILITY_METRICS of a run, from its probabilities; groups: (n,), drawn together."""
    resampled = ResampledProbabilities.of(scores)
    members = None if groups is None else consecutive(groups)

    def scored(counts: FloatArray) -> FloatArray:
        # Its cumulative sums run along examples.
        return resampled.scores(np.ascontiguousarray(counts.T) if members is None else counts.T[members])

    return scored


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


def _named(names: tuple[str, ...], ends: tuple[FloatArray, FloatArray]) -> dict[str, tuple[float, float]]:
    pairs = zip(names, *ends, strict=True)
    return {name: (max(float(low), 0.0), min(float(high), 1.0)) for name, low, high in pairs}
