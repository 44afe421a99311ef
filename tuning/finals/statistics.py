"""Ranking of the finals, and whether the first is better than seed noise. Pure functions; a higher score is better."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

__all__ = ["Difference", "FinalRun", "SeedSummary", "paired_difference", "rank", "t_interval"]

_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class FinalRun:
    """A trial of the search, trained again with a seed that the search has not used."""

    trial: int
    """Its number in the search."""
    seed: int
    score: float | None
    """On dev; None where the training failed."""
    run_id: str


@dataclass(frozen=True, kw_only=True)
class SeedSummary:
    """The scores of a trial's settings over the seeds of the finals."""

    trial: int
    scores: Mapping[int, float]
    """Seed to score, for the seeds that have one."""
    missing: tuple[int, ...]
    """Seeds without a score."""
    mean: float | None
    interval: tuple[float, float] | None
    """95 % t interval of the mean over seeds, within [0, 1]; None with fewer than two scores.

    It contains the noise of seeds only: the trials were selected on the same dev examples.
    """


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean of first minus second over the seeds that both have."""

    seeds: tuple[int, ...]
    mean: float
    interval: tuple[float, float] | None
    """95 % t interval; None with one seed."""

    @property
    def is_significant(self) -> bool:
        """True when the interval does not contain 0."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def rank(finals: Sequence[FinalRun]) -> list[SeedSummary]:
    """Return the trials by mean score, the best first; of equal means the lower number first.

    A trial without a score for a seed that others have ranks after the complete ones: its mean is over other seeds.
    Of two scores for one trial and seed the later counts.
    """
    seeds = sorted({run.seed for run in finals})
    summaries = [_summarise(trial, finals, seeds) for trial in {run.trial for run in finals}]
    return sorted(summaries, key=lambda one: (bool(one.missing), -_or_lowest(one.mean), one.trial))


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % t interval of the mean of the values (n,); None with fewer than two."""
    import numpy as np

    from trainer.evaluation.paired import Estimate

    if len(values) < 2:
        return None
    # Of scores alone, without the noise of examples. With three seeds, 4.3 standard errors instead of the normal 1.96.
    return Estimate.over_seeds(np.array(values)).interval(_LEVEL)


def paired_difference(first: SeedSummary, second: SeedSummary) -> Difference | None:
    """Return by how much `first` is better than `second` on the same seeds; None when they share none."""
    seeds = sorted(first.scores.keys() & second.scores.keys())
    if not seeds:
        return None
    gaps = [first.scores[seed] - second.scores[seed] for seed in seeds]  # pairs: a seed that favours both cancels out
    return Difference(seeds=tuple(seeds), mean=fmean(gaps), interval=t_interval(gaps))


def _summarise(trial: int, finals: Sequence[FinalRun], seeds: Sequence[int]) -> SeedSummary:
    scores = {run.seed: run.score for run in finals if run.trial == trial and run.score is not None}
    values = list(scores.values())
    interval = t_interval(values)
    return SeedSummary(
        trial=trial,
        scores=scores,
        missing=tuple(seed for seed in seeds if seed not in scores),
        mean=fmean(values) if values else None,
        interval=interval and (max(interval[0], 0.0), min(interval[1], 1.0)),
    )


def _or_lowest(mean: float | None) -> float:
    return -math.inf if mean is None else mean
