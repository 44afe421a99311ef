"""Scores of the configurations under every threshold policy, with intervals over seeds and examples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.evaluation.arrays import FloatArray, LabelledScores
from trainer.evaluation.averages import METRICS, average
from trainer.evaluation.calibration import brier_score
from trainer.evaluation.metrics import probability_scores
from trainer.evaluation.paired import Estimate, RunCounts, ScoreDraws
from trainer.evaluation.resampled_probabilities import PROBABILITY_METRICS, ResampledProbabilities
from trainer.evaluation.resampling import Resampling, resamples
from tuning.comparison.report.loading import OWN, Examples, ScoredRun

__all__ = ["ANY_POLICY", "ScoreRow", "score_rows"]

ANY_POLICY = ""
"""Policy of a score that needs no threshold."""
_MOST_RESAMPLES, _MOST_SORTED = 1000, 200
"""They give standard errors, to 2 and to 5 %. Average precision sorts, which is slow."""


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
    names = list(dict.fromkeys(run.configuration for run in runs))
    members = {name: [place for place, run in enumerate(runs) if run.configuration == name] for name in names}
    few = replace(resampling, num_resamples=min(resampling.num_resamples, _MOST_RESAMPLES))
    rows = []
    for policy, metric, draws in _draws(examples, runs, few):
        for name, places in members.items():
            if np.isfinite(draws.point[places]).all():
                seeds = [runs[place].seed for place in places]
                rows.append(_row(name, policy, metric, draws.mean(places), seeds, few.level))
    return rows


def _draws(
    examples: Examples, runs: Sequence[ScoredRun], resampling: Resampling
) -> Iterator[tuple[str, str, ScoreDraws]]:
    for policy in [OWN, *(name for name in runs[0].decisions if name != OWN)]:
        if all(policy in run.decisions for run in runs):
            counts = RunCounts.of(examples.labels, [run.decisions[policy] for run in runs], examples.groups)
            for metric, draws in _decision_draws(counts, resampling).items():
                yield policy, metric, draws
    few = replace(resampling, num_resamples=min(resampling.num_resamples, _MOST_SORTED))
    for metric, draws in _probability_draws(examples, runs, few).items():
        yield ANY_POLICY, metric, draws


def _decision_draws(counts: RunCounts, resampling: Resampling) -> dict[str, ScoreDraws]:
    """Return METRICS of the runs, with the covariances of the same resamples for all of them."""
    units, num_runs, num_labels = counts.predicted.shape
    blocks = (counts.true_positives.reshape(units, -1), counts.predicted.reshape(units, -1), counts.positives)
    table = np.concatenate(blocks, axis=1).astype(np.float32)  # whole numbers, whose sums it holds exactly
    drawn: dict[str, list[FloatArray]] = {metric: [] for metric in METRICS}
    for weights in resamples(units, resampling, table.shape[1]):
        sums = (weights.astype(np.float32) @ table).astype(np.float64)
        tp, predicted, positives = np.split(sums, (num_runs * num_labels, 2 * num_runs * num_labels), axis=1)
        shape = (len(sums), num_runs, num_labels)
        for metric, found in drawn.items():
            found.append(
                average(metric, counts.scored, tp.reshape(shape), predicted.reshape(shape), positives[:, None])
            )
    return {
        metric: _score_draws(counts.point(metric)[:, -1], np.concatenate(found), units)
        for metric, found in drawn.items()
    }


def _score_draws(points: FloatArray, drawn: FloatArray, units: int) -> ScoreDraws:
    """Return what `paired` needs of the scores of r runs, (r,), and of resamples of them, (resamples, r)."""
    finite = drawn[np.isfinite(drawn).all(axis=1)]  # a resample without a positive has no average precision
    covariance = np.cov(finite, rowvar=False).reshape(1, len(points), len(points))
    return ScoreDraws(point=points[:, None], covariance=covariance, num_units=units)


def _row(name: str, policy: str, metric: str, found: Estimate, seeds: Sequence[int], level: float) -> ScoreRow:
    low, high = found.interval(level)
    return ScoreRow(
        configuration=name,
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
