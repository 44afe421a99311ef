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
    """Exact McNemar's test of the number of right cells with one seed and no groups, otherwise that of the interval."""
    p_corrected: float
    """By Holm's method over the labels of the pair."""


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """First minus second on their common seeds."""

    first: str
    second: str
    planned: bool
    difference: float
    """Mean difference of the comparison's metric over the common seeds."""
    low: float
    """Of the interval over seeds and examples; over examples alone with one seed."""
    high: float
    p_value: float
    p_corrected: float | None
    """By Holm's method over the planned pairs; None for an exploratory pair."""
    p_permutation: float
    """When predictions of whole examples are exchanged; the seeds are taken as they are."""
    effect_size: float | None
    """Mean difference divided by its standard deviation over seeds; None with one seed or without a deviation."""
    effect_low: float | None
    effect_high: float | None
    detectable: float
    """Smallest difference that this design shows with 80 % power at the level of Holm's first step."""
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
    """`examples` where a system has one seed: its intervals then say nothing about another training."""


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
    return (
        f"no difference shown between {pair.first} and {pair.second}: {shown}; "
        f"this design detects ≥ {pair.detectable:.3f}{end}"
    )


def _shown(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
