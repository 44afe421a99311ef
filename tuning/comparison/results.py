"""What a comparison hands to its report: the plan, and one record for each training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["ComparedRun", "ComparisonPlan", "Pair"]

Pair = tuple[str, str]
"""Names of two configurations; their difference is the score of the first minus that of the second."""


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A training of one configuration with one seed."""

    configuration: str
    seed: int
    run_id: str
    """Empty where no run was created."""
    folder: Path | None
    """Folder with the artifacts of the run on this machine; None where it has none."""
    state: Literal["finished", "failed", "missing"]
    cause: str
    """Why it failed or is missing; empty for a finished run."""
    reused: bool
    """True for a run that was finished before the comparison."""
    settings: Mapping[str, Any]
    """Every setting of training, resolved; its seed and fold alone unless it is finished."""
    scores: Mapping[str, float]
    """Every score of outcome.json."""
    seconds: float | None
    """Of training; None where it is not known."""


@dataclass(frozen=True, kw_only=True)
class ComparisonPlan:
    """What is compared and how, written before the first training."""

    name: str
    configurations: Mapping[str, Mapping[str, Any]]
    """Name to the settings in which the configuration differs from those that all share; the baseline first."""
    seeds: tuple[int, ...]
    metric: str
    """`macro_f1`, `micro_f1` or `weighted_f1`, on test."""
    planned: tuple[Pair, ...]
    min_effect: float
    """Smallest difference of interest."""
    resamples: int
    written: str
    """Time at which the plan was written, as ISO 8601 with its offset."""
    exploratory: tuple[Pair, ...]
    """Pairs that were named after the plan was written."""
