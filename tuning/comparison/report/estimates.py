"""Scores of the configurations under every threshold policy, with intervals over seeds and examples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.evaluation.arrays import FloatArray, LabelledScores
from trainer.evaluation.averages import METRICS
from trainer.evaluation.bayesian import mean_interval, metric_intervals
from trainer.evaluation.calibration import brier_score
from trainer.evaluation.intervals import interval_ends
from trainer.evaluation.metrics import probability_scores
from trainer.evaluation.paired import Estimate, RunCounts
from trainer.evaluation.resampled_probabilities import PROBABILITY_METRICS, ResampledProbabilities
from trainer.evaluation.resampling import Resampling, resamples
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
    scored = _probability_scores(examples, runs, sorting)
    for metric in PROBABILITY_METRICS:
        for name, places in members.items():
            if all(np.isfinite(scored[place].points[metric]) for place in places):
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
    # The intervals of the runs contain the noise of examples.
    found = Estimate(by_seed=points, examples_error=0.0, seeds_error=_standard_error(points), num_units=1)
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


def _standard_error(by_seed: FloatArray) -> float:
    return float(by_seed.std(ddof=1)) / len(by_seed) ** 0.5 if len(by_seed) > 1 else 0.0


def _probability_scores(examples: Examples, runs: Sequence[ScoredRun], resampling: Resampling) -> list[_RunScores]:
    """Return PROBABILITY_METRICS of the runs with basic intervals, which alone correct the calibration error."""
    units = examples.labels.num_examples if examples.groups is None else int(examples.groups.max()) + 1
    scorers = [ResampledProbabilities.of(run.scores) for run in runs]
    drawn: list[FloatArray] = []
    for weights in resamples(units, resampling, examples.labels.num_examples):
        of_examples = np.ascontiguousarray(weights.T) if examples.groups is None else weights.T[examples.groups]
        drawn.append(np.stack([scorer.scores(of_examples) for scorer in scorers], axis=1))
    values = np.concatenate(drawn)
    return [_with_basic_ends(run.scores, values[:, place], resampling.level) for place, run in enumerate(runs)]


def _with_basic_ends(scores: LabelledScores, drawn: FloatArray, level: float) -> _RunScores:
    """Return the scores of one run; drawn: those of its resamples, (resamples, PROBABILITY_METRICS)."""
    found = probability_scores(scores) | {"brier": brier_score(scores)}
    points = {metric: found.get(metric, np.nan) for metric in PROBABILITY_METRICS}
    intervals = {}
    for place, metric in enumerate(PROBABILITY_METRICS):
        if np.isfinite(points[metric]):
            low, high = interval_ends("basic", np.array([points[metric]]), drawn[:, [place]], level)
            intervals[metric] = float(low[0]), float(high[0])
    return _RunScores(points, intervals)
