"""Scores of the configurations under every threshold policy, with intervals over seeds and examples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.evaluation.averages import METRICS
from trainer.evaluation.bayesian import mean_interval, metric_intervals
from trainer.evaluation.calibration import brier_score
from trainer.evaluation.intervals import resampled_intervals
from trainer.evaluation.metrics import probability_scores
from trainer.evaluation.paired import Estimate, RunCounts
from trainer.evaluation.resampled_probabilities import PROBABILITY_METRICS
from trainer.evaluation.resampled_scores import probability_statistic
from trainer.evaluation.resampling import Resampling
from tuning.comparison.report.loading import OWN, Examples, ScoredRun

__all__ = ["ANY_POLICY", "ScoreRow", "score_rows"]

ANY_POLICY = ""
"""Policy of a score that needs no threshold."""
_MOST_DRAWS, _MOST_SORTED = 1000, 500
"""The latter for average precision, whose sums are slow."""


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
    scored = [_probability_scores(examples, run, sorting) for run in runs]
    for metric in PROBABILITY_METRICS:
        for name, places in members.items():
            if all(metric in scored[place].points for place in places):
                of_seeds = {runs[place].seed: scored[place] for place in places}
                rows.append(_row((name, ANY_POLICY, metric), of_seeds, resampling.level))
    return rows


def _decision_rows(
    examples: Examples, runs: Sequence[ScoredRun], members: Mapping[str, Sequence[int]], resampling: Resampling
) -> Iterator[ScoreRow]:
    known: dict[int, _RunScores] = {}  # the decisions under OWN are those of another policy
    for policy in [OWN, *(name for name in runs[0].decisions if name != OWN)]:
        if not all(policy in run.decisions for run in runs):
            continue
        for run in runs:
            decisions = run.decisions[policy]
            if id(decisions) not in known:
                known[id(decisions)] = _decision_scores(
                    RunCounts.of(examples.labels, [decisions], examples.groups), resampling
                )
        for metric in METRICS:
            for name, places in members.items():
                of_seeds = {runs[place].seed: known[id(runs[place].decisions[policy])] for place in places}
                yield _row((name, policy, metric), of_seeds, resampling.level)


@dataclass(frozen=True)
class _RunScores:
    """Scores of one run, and their intervals over examples."""

    points: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]


def _decision_scores(counts: RunCounts, resampling: Resampling) -> _RunScores:
    points = {metric: float(counts.point(metric)[0, -1]) for metric in METRICS}
    return _RunScores(points, metric_intervals(counts, METRICS, resampling))


def _row(of: tuple[str, str, str], runs: Mapping[int, _RunScores], level: float) -> ScoreRow:
    """Return the mean over the runs of the seeds. of: configuration, policy and metric."""
    configuration, policy, metric = of
    points = np.array([run.points[metric] for run in runs.values()])
    found = Estimate.over_seeds(points)  # the intervals of the runs contain the noise of examples
    low, high = mean_interval([run.intervals[metric] for run in runs.values()], found, level)
    return ScoreRow(
        configuration=configuration,
        policy=policy,
        metric=metric,
        value=found.value,
        low=low,
        high=high,
        by_seed={seed: float(run.points[metric]) for seed, run in runs.items()},
    )


def _probability_scores(examples: Examples, run: ScoredRun, resampling: Resampling) -> _RunScores:
    """Return PROBABILITY_METRICS of a run with basic intervals, which alone correct the calibration error."""
    found = probability_scores(run.scores) | {"brier": brier_score(run.scores)}
    units = examples.labels.num_examples if examples.groups is None else int(examples.groups.max()) + 1
    ends = resampled_intervals(probability_statistic(run.scores, examples.groups), units, "basic", resampling)
    intervals = {name: (float(low), float(high)) for name, low, high in zip(PROBABILITY_METRICS, *ends, strict=True)}
    return _RunScores({name: found[name] for name in PROBABILITY_METRICS if name in found}, intervals)
