"""Which setting won the finals, and whether by more than noise. Pure functions; a higher score is better."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

__all__ = ["Difference", "FinalRun", "Standing", "paired_difference", "rank", "t_interval"]

_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class FinalRun:
    """One of the best settings, trained once more with a seed the search has not seen."""

    setting: int
    """Number of the trial the setting comes from."""
    seed: int
    score: float | None
    """On dev; None where the run has none."""
    run_id: str


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a setting reached over its seeds."""

    setting: int
    scores: Mapping[int, float]
    """Seed to score, for the seeds that have one."""
    missing: tuple[int, ...]
    """Seeds of the finals without a score for this setting."""
    mean: float | None
    interval: tuple[float, float] | None
    """95 % t interval of the mean; None with fewer than two scores."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean of first minus second over the seeds that both have."""

    seeds: tuple[int, ...]
    mean: float
    interval: tuple[float, float] | None
    """95 % t interval; None with one seed."""

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def rank(finals: Sequence[FinalRun]) -> list[Standing]:
    """Return the settings by mean score, the best first; of equal means the lower trial number.

    A setting that lacks the score of a seed any other has been given comes after those that have all: its mean is over
    other seeds. Of two scores for one setting and seed the later stands.
    """
    seeds = sorted({run.seed for run in finals})
    standings = [_standing(setting, finals, seeds) for setting in {run.setting for run in finals}]
    return sorted(standings, key=lambda one: (bool(one.missing), -_or_lowest(one.mean), one.setting))


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return mean ± t·s/√n, 95 %, of the values (n,); None with fewer than two."""
    from scipy import stats

    if len(values) < 2:
        return None
    mean, error = fmean(values), stdev(values) / math.sqrt(len(values))
    half = float(stats.t.ppf((1 + _LEVEL) / 2, len(values) - 1)) * error
    return mean - half, mean + half


def paired_difference(first: Standing, second: Standing) -> Difference | None:
    """Return by how much `first` is better than `second` on the same seeds; None when they share none."""
    seeds = sorted(first.scores.keys() & second.scores.keys())
    if not seeds:
        return None
    gaps = [first.scores[seed] - second.scores[seed] for seed in seeds]
    return Difference(seeds=tuple(seeds), mean=fmean(gaps), interval=t_interval(gaps))


def _standing(setting: int, finals: Sequence[FinalRun], seeds: Sequence[int]) -> Standing:
    scores = {run.seed: run.score for run in finals if run.setting == setting and run.score is not None}
    values = list(scores.values())
    return Standing(
        setting=setting,
        scores=scores,
        missing=tuple(seed for seed in seeds if seed not in scores),
        mean=fmean(values) if values else None,
        interval=t_interval(values),
    )


def _or_lowest(mean: float | None) -> float:
    return -math.inf if mean is None else mean
