"""Scores of the configurations under every threshold policy, with intervals over seeds and examples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.evaluation.arrays import FloatArray, LabelledScores
from trainer.evaluation.averages import METRICS
from trainer.evaluation.bayesian import mean_interval, metric_intervals
from trainer.evaluation.calibration import brier_score
from trainer.evaluation.metrics import probability_scores
from trainer.evaluation.paired import Estimate, RunCounts, ScoreDraws
from trainer.evaluation.resampled_probabilities import PROBABILITY_METRICS, ResampledProbabilities
from trainer.evaluation.resampling import Resampling, resamples
from tuning.comparison.report.loading import OWN, Examples, ScoredRun

__all__ = ["ANY_POLICY", "ScoreRow", "score_rows"]

ANY_POLICY = ""
"""Policy of a score that needs no threshold."""
_MOST_DRAWS, _MOST_SORTED = 1000, 200
"""The latter give standard errors to 5 %: average precision sorts, which is slow."""


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One score of one configuration, mean over its seeds."""

    configuration: str
    policy: str
    """OWN, a threshold policy, or ANY_POLICY."""
    metric: str
    value: float
    low: float
    high: float
    by_seed: dict[int, float]


def score_rows(examples: Examples, runs: Sequence[ScoredRun], resampling: Resampling) -> list[ScoreRow]:
    """Return macro, micro and weighted F1, precision and recall under every policy, then AP, ECE and Brier score.

    A policy that some run lacks, one of an older version, is left out.
    """
    members: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        members.setdefault(run.configuration, []).append(place)
    few = replace(resampling, num_resamples=min(resampling.num_resamples, _MOST_DRAWS))
    rows = list(_decision_rows(examples, runs, members, few))
    sorting = replace(resampling, num_resamples=min(resampling.num_resamples, _MOST_SORTED))
    for metric, draws in _probability_draws(examples, runs, sorting).items():
        for name, places in members.items():
            if np.isfinite(draws.point[places]).all():
                found = draws.mean(places)
                seeds = [runs[place].seed for place in places]
                rows.append(_row(name, ANY_POLICY, metric, found, seeds, found.interval(resampling.level)))
    return rows


def _decision_rows(
    examples: Examples, runs: Sequence[ScoredRun], members: Mapping[str, Sequence[int]], resampling: Resampling
) -> Iterator[ScoreRow]:
    known: dict[int, _DecisionScores] = {}  # the decisions under OWN are those of another policy
    for policy in [OWN, *(name for name in runs[0].decisions if name != OWN)]:
        if not all(policy in run.decisions for run in runs):
            continue
        for run in runs:
            decisions = run.decisions[policy]
            if id(decisions) not in known:
                known[id(decisions)] = _DecisionScores.of(
                    RunCounts.of(examples.labels, [decisions], examples.groups), resampling
                )
        scored = [known[id(run.decisions[policy])] for run in runs]
        for metric in METRICS:
            for name, places in members.items():
                of_seeds = np.array([scored[place].points[metric] for place in places])
                # The intervals below contain the noise of examples.
                found = Estimate.of(of_seeds, np.zeros((len(places), len(places))), examples.labels.num_examples)
                ends = mean_interval([scored[place].intervals[metric] for place in places], found, resampling.level)
                yield _row(name, policy, metric, found, [runs[place].seed for place in places], ends)


@dataclass(frozen=True)
class _DecisionScores:
    """METRICS of one run under one policy, with their intervals."""

    points: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, counts: RunCounts, resampling: Resampling) -> "_DecisionScores":
        points = {metric: float(counts.point(metric)[0, -1]) for metric in METRICS}
        return cls(points, metric_intervals(counts, METRICS, resampling))


def _score_draws(points: FloatArray, drawn: FloatArray, units: int) -> ScoreDraws:
    """Return what `paired` needs of the scores of r runs, (r,), and of resamples of them, (resamples, r)."""
    finite = drawn[np.isfinite(drawn).all(axis=1)]  # a resample without a positive has no average precision
    covariance = np.cov(finite, rowvar=False).reshape(1, len(points), len(points))
    return ScoreDraws(point=points[:, None], covariance=covariance, num_units=units)


def _row(
    configuration: str,
    policy: str,
    metric: str,
    found: Estimate,
    seeds: Sequence[int],
    ends: tuple[float, float],
) -> ScoreRow:
    low, high = ends
    return ScoreRow(
        configuration=configuration,
        policy=policy,
        metric=metric,
        value=found.value,
        low=max(low, 0.0),
        high=min(high, 1.0),
        by_seed=dict(zip(seeds, map(float, found.by_seed), strict=True)),
    )


def _probability_draws(examples: Examples, runs: Sequence[ScoredRun], resampling: Resampling) -> dict[str, ScoreDraws]:
    """Return metric to the scores of the runs, with the covariances of the same resamples for all of them."""
    units = examples.labels.num_examples if examples.groups is None else int(examples.groups.max()) + 1
    scorers = [ResampledProbabilities.of(run.scores) for run in runs]
    drawn: list[FloatArray] = []
    for weights in resamples(units, resampling, examples.labels.num_examples):
        of_examples = np.ascontiguousarray(weights.T) if examples.groups is None else weights.T[examples.groups]
        drawn.append(np.stack([scorer.scores(of_examples) for scorer in scorers], axis=1))
    values = np.concatenate(drawn)
    points = [_point(run.scores) for run in runs]
    return {
        metric: _score_draws(np.array([point.get(metric, np.nan) for point in points]), values[:, :, place], units)
        for place, metric in enumerate(PROBABILITY_METRICS)
    }


def _point(scores: LabelledScores) -> dict[str, float]:
    return probability_scores(scores) | {"brier": brier_score(scores)}
