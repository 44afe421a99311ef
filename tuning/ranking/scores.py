"""Intervals of the dev scores of the best runs of a group, and which of them are not shown to differ from the first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.core.errors import DataError
from trainer.evaluation import metrics
from trainer.evaluation.averages import METRICS
from trainer.evaluation.bootstrap import Resampling, bootstrap_intervals
from trainer.evaluation.paired import RunCounts, ScoreDraws
from trainer.reporting.report import Estimate
from trainer.runs.predicted_labels import PredictedLabels, read_predicted_labels
from tuning.ranking.runs import TrainingRun

__all__ = ["RankedRun", "rank_runs"]

_SAME_SCORE = 1e-6


@dataclass(frozen=True, kw_only=True)
class RankedRun:
    """A run of the leaderboard."""

    run: TrainingRun
    rank: int
    dev: Estimate
    tied: bool | None
    """Whether the interval of its difference from the first run contains 0; None for the first, and where unknown."""
    no_interval: str
    """Why there is no interval on dev; empty where there is one."""


def rank_runs(
    runs: Sequence[TrainingRun], metric: str, fetch: Callable[[str], Path], resampling: Resampling
) -> list[RankedRun]:
    """Return the runs in the given order, with intervals as far as their predictions can be read.

    fetch: run id → folder with the files of the run; raises DataError where it cannot get them.
    """
    found = _same_labels(runs, [_predicted(run, metric, fetch) for run in runs])
    ties = _ties(found, metric, resampling)
    return [
        RankedRun(
            run=run,
            rank=place + 1,
            dev=Estimate(run.dev_score, *_interval(one, metric, resampling)),
            tied=ties.get(place),
            no_interval=one if isinstance(one, str) else "",
        )
        for place, (run, one) in enumerate(zip(runs, found, strict=True))
    ]


def _interval(
    found: PredictedLabels | str, metric: str, resampling: Resampling
) -> tuple[float, float] | tuple[None, None]:
    if isinstance(found, str):
        return None, None
    return bootstrap_intervals(found.scores, found.predictions, resampling, groups=found.groups).headline[metric]


def _predicted(run: TrainingRun, metric: str, fetch: Callable[[str], Path]) -> PredictedLabels | str:
    """Return what the run predicted on dev, or why that is not known."""
    if metric not in METRICS:
        return f"{metric} has no interval"
    try:
        predicted = read_predicted_labels(fetch(run.run_id), "dev")
    except DataError as error:
        return str(error)
    score = metrics.decision_scores(predicted.scores, predicted.predictions)[metric]
    if abs(score - run.dev_score) > _SAME_SCORE:  # an interval around another number would mislead
        return f"The files of run {run.run_id} give the score {score:.4f} instead of {run.dev_score:.4f}."
    return predicted


def _same_labels(runs: Sequence[TrainingRun], found: Sequence[PredictedLabels | str]) -> list[PredictedLabels | str]:
    """Leave out runs with other names of labels: MLflow keeps the columns of the first data set with a digest alone."""
    names = next((one.scores.label_names for one in found if isinstance(one, PredictedLabels)), ())
    return [
        f"Run {run.run_id} has other labels, so its score does not compare."
        if isinstance(one, PredictedLabels) and one.scores.label_names != names
        else one
        for run, one in zip(runs, found, strict=True)
    ]


def _ties(found: Sequence[PredictedLabels | str], metric: str, resampling: Resampling) -> dict[int, bool]:
    """Return place → whether the interval of the paired difference from the first run contains 0."""
    known = {place: one for place, one in enumerate(found) if isinstance(one, PredictedLabels)}
    first = known.get(0)
    if first is None:
        return {}
    same = {
        place: one.predictions for place, one in known.items() if np.array_equal(one.scores.labels, first.scores.labels)
    }
    counts = RunCounts.of(first.scores, list(same.values()), first.groups)
    draws = ScoreDraws.of(counts, metric, resampling)
    ties = {}
    for column, place in enumerate(same):
        low, high = draws.difference([0], [column]).interval(resampling.level)
        ties[place] = bool(low <= 0 <= high)
    del ties[0]
    return ties
