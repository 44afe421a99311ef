"""What is compared and what a comparison finds, with its verdicts in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from trainer.evaluation.arrays import BoolArray

__all__ = [
    "Comparison",
    "IntervalSources",
    "LabelDifference",
    "PairResult",
    "System",
    "SystemScores",
    "Verdict",
    "verdict_sentence",
]

Verdict: TypeAlias = Literal["better", "worse", "equivalent", "not_shown"]
IntervalSources: TypeAlias = Literal["seeds and examples", "examples"]


@dataclass(frozen=True, kw_only=True)
class System:
    """One configuration trained with several seeds, or one model."""

    name: str
    predictions: Mapping[int, BoolArray]
    """Seed to predictions (n, k) on the same examples, each under its own thresholds."""


@dataclass(frozen=True, kw_only=True)
class SystemScores:
    """The score of one system."""

    name: str
    seeds: tuple[int, ...]
    score: float
    """Mean of the comparison's metric over seeds."""
    low: float
    high: float
    by_seed: tuple[float, ...]
    """The metric of each seed."""
    per_label: tuple[float | None, ...]
    """Mean over seeds for each label in order; None for a label without a positive."""


@dataclass(frozen=True, kw_only=True)
class LabelDifference:
    """First minus second for one label, mean over seeds."""

    difference: float
    low: float
    high: float
    p_value: float
    """That of the interval."""
    p_corrected: float
    """`p_value` by Holm's method over the labels of the pair."""
    p_mcnemar: float | None
    """Of the exact test of the number of right cells, not of F1; not corrected. None with several seeds or groups."""


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """First minus second on their common seeds."""

    first: str
    second: str
    planned: bool
    num_planned: int
    """Pairs of the plan, over which the p-value is corrected, those that could not be compared included."""
    difference: float
    """Mean difference of the comparison's metric over the common seeds."""
    low: float
    """Of the interval over seeds and examples; over examples alone with one seed. Not corrected for several pairs."""
    high: float
    p_value: float
    p_corrected: float | None
    """By Holm's method over the planned pairs; None for an exploratory pair."""
    p_permutation: float
    """When predictions of whole examples are exchanged; the seeds are taken as they are, so with several it is no test
    of configurations."""
    effect_size: float | None
    """Mean difference divided by its standard deviation over seeds; None with one seed or without a deviation."""
    effect_low: float | None
    effect_high: float | None
    detectable: float
    """About the smallest difference that this design shows with 80 % power at the level of Holm's first step."""
    detectable_degrees: int
    """Degrees of freedom of the variance between seeds in `detectable`, pooled over the planned pairs (over all pairs
    without a plan); 0 with one seed, where it has no part."""
    verdict: Verdict
    """`equivalent` where the interval lies within ±min_effect, whatever the p-value."""
    seeds: tuple[int, ...]
    per_label: tuple[LabelDifference | None, ...]
    """None for a label without a positive, whose score is undefined."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Scores of the systems and of all their pairs."""

    label_names: tuple[str, ...]
    left_out: tuple[str, ...]
    """Labels without a positive: no comparison by label. Macro averages count their undefined F1 as 0."""
    systems: tuple[SystemScores, ...]
    pairs: tuple[PairResult, ...]
    """Planned pairs first, then all others in the order of the systems."""
    unpaired: tuple[tuple[str, str], ...]
    """Pairs without a common seed, which were not compared."""
    level: float
    num_resamples: int
    min_effect: float
    metric: str
    interval_sources: IntervalSources
    """`examples` where every system and pair has one seed. Otherwise some of them may: see `of_one_seed`."""

    @property
    def of_one_seed(self) -> tuple[str, ...]:
        """Systems with one seed, and pairs of others with one in common: their intervals are over examples alone."""
        systems = [system.name for system in self.systems if len(system.seeds) == 1]
        pairs = [pair for pair in self.pairs if len(pair.seeds) == 1 and not {pair.first, pair.second} & set(systems)]
        return (*systems, *(f"{pair.first} - {pair.second}" for pair in pairs))


def verdict_sentence(pair: PairResult) -> str:
    """Return the verdict in words, with difference and interval."""
    end = "" if pair.planned else " (exploratory)"
    if pair.verdict == "better":
        return f"{pair.first} beats {pair.second} by {_shown(pair.difference, pair.low, pair.high)}{end}"
    if pair.verdict == "worse":
        return f"{pair.second} beats {pair.first} by {_shown(-pair.difference, -pair.high, -pair.low)}{end}"
    shown = f"{pair.first} - {pair.second} = {_shown(pair.difference, pair.low, pair.high)}"
    if pair.verdict == "equivalent":
        return f"{pair.first} and {pair.second} differ by less than the minimum effect: {shown}{end}"
    # Holm's method corrects the p-value alone, so the interval may lie on one side of 0.
    uncorrected = "" if pair.low <= 0.0 <= pair.high else f" (not corrected for {pair.num_planned} planned pairs)"
    return (
        f"no difference shown between {pair.first} and {pair.second}: {shown}{uncorrected}; "
        f"this design detects about {pair.detectable:.3f} or more{end}"
    )


def _shown(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
