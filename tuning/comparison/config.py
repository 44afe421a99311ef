"""The settings of a comparison."""

from dataclasses import dataclass
from typing import Literal

from trainer.core.errors import SettingsError
from trainer.core.settings import require, require_count

__all__ = ["DEFAULT_CONFIGS", "CompareConfig"]

DEFAULT_CONFIGS = "bce,asl,combined:0.7,combined:0.5,combined:0.3"
_MAX_WORKERS = 1024  # on one machine
_MAX_SEEDS = 1000


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Train configurations on the same seeds, examples and steps, and test their differences.

    Settings of `train` may be given too; all trainings share them.
    """

    configs: str = ""
    """Configurations, separated by commas: a loss, or a loss and the value of `ratio` after a colon. The first is the
    baseline. Empty = bce,asl,combined:0.7,combined:0.5,combined:0.3."""
    file: str = ""
    """Path of a plan: a YAML file with named configurations of any settings, in place of `configs`."""
    runs: str = ""
    """Ids of finished runs, separated by commas, to compare without training. Runs that differ in their seed only are
    one configuration; the first run is of the baseline."""
    comparison: str = ""
    """Name of the comparison. An existing one is continued; empty creates one and prints its name."""
    seeds: int = 3
    """Trainings of each configuration, each with another seed."""
    seed: int = 42
    """The first of the seeds."""
    metric: Literal["macro_f1", "micro_f1", "weighted_f1"] = "macro_f1"
    """Score on test that the planned pairs are tested on, each configuration under its own thresholds."""
    min_effect: float = 0.01
    """Smallest difference of interest. A difference whose whole interval is smaller counts as none."""
    resamples: int = 10_000
    """Bootstrap resamples for each interval."""
    workers: str = "auto"
    """Trainings at the same time, each on its own cores or GPUs: a number, or auto = one for each GPU, or without GPUs
    one for each core, at most four."""
    worker: bool = False
    """Only add workers to an existing comparison, on this or another machine. The command without it writes the
    report."""
    trial_minutes: float = 0.0
    """Minutes after which a training has failed; 0 = no limit."""
    reuse: bool = True
    """Take finished runs with the same settings, examples and code in place of a training."""
    output: str = "runs"
    """Folder for run folders and, without OPTUNA_STORAGE, the studies (optuna.db), relative to the current one."""

    def __post_init__(self) -> None:
        given = [name for name in ("configs", "file", "runs") if getattr(self, name)]
        if len(given) > 1:
            raise SettingsError(f"Only one of `configs`, `file` and `runs` must be given, got {' and '.join(given)}.")
        name = self.comparison
        require("comparison", name, name == name.strip(), "not begin or end with a space")
        require("seeds", self.seeds, 1 <= self.seeds <= _MAX_SEEDS, f"be in [1, {_MAX_SEEDS}]")
        require("seed", self.seed, 0 <= self.seed < 2**31, "be in [0, 2^31)")
        require("min_effect", self.min_effect, 0 <= self.min_effect < 1, "be at least 0 and below 1")
        require("resamples", self.resamples, 100 <= self.resamples <= 1_000_000, "be in [100, 1000000]")
        require_count("workers", self.workers, _MAX_WORKERS)
        require("trial_minutes", self.trial_minutes, 0 <= self.trial_minutes < 1e6, "be at least 0 (no limit)")
        without_seeds = bool(self.runs) and (self.seeds, self.seed) != (CompareConfig.seeds, CompareConfig.seed)
        require("seeds", self.seeds, not without_seeds, "be left out with `runs`, which have their own")
        require("worker", self.worker, not (self.worker and self.runs), "be false with `runs`, which trains nothing")
