"""The settings of a search."""

from dataclasses import dataclass, field
from typing import Literal

from trainer.core.settings import require, require_count

__all__ = ["FinalsConfig", "SearchConfig", "StudyConfig", "TuneConfig"]

_RANGES = {
    "trials": (1, 1_000_000),
    "repeats": (1, 1000),
    "max_failures": (1, 1_000_000),
    "reports": (2, 100_000),
    "grid_points": (2, 10_000),
}
_MAX_WORKERS = 1024  # on one machine
_MAX_FINALS = 1000
_SEEDED_TESTS = 4  # the signed-rank test of fewer pairs cannot fall below 0.1, which prunes


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """The study and its storage. The environment variable OPTUNA_STORAGE names a database for several machines."""

    study: str = ""
    """Name of the study. An existing study is continued; empty creates a study and prints its name."""
    worker: bool = False
    """Only add workers to an existing study, on this or another machine. The command without it runs finals and
    report."""
    output: str = "runs"
    """Folder for run folders and, without OPTUNA_STORAGE, the studies (optuna.db), relative to the current one."""
    seed: int = 42
    """Seed of the sampler and of every training of the search; the finals use the seeds after it. With one worker, the
    same seed and study name repeat a search (the brackets of hyperband depend on the name)."""

    def __post_init__(self) -> None:
        require("study", self.study, self.study == self.study.strip(), "not begin or end with a space")
        require("seed", self.seed, 0 <= self.seed < 2**31, "be in [0, 2^31)")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What to search, how, and with how many workers."""

    trials: int = 10
    """Trials of the study in all, with those of earlier commands and other workers. Failed trials count."""
    workers: str = "auto"
    """Trials that run at the same time, each on its own cores or GPUs: a number, or auto = one for each GPU, or without
    GPUs one for each core, at most four."""
    losses: str = ""
    """Losses to search, separated by commas; empty = the loss of the preset."""
    space: str = "auto"
    """Settings to vary: name of a shipped space, or path of a YAML file. auto = the space named like the preset, else
    `default`."""
    sampler: Literal["tpe", "gp", "cmaes", "random", "grid"] = "tpe"
    """Method that suggests trials. tpe models the scores after the first third of the trials. gp, which loads torch,
    and cmaes suit continuous settings and one loss; grid runs every combination of evenly spaced values."""
    pruner: Literal["auto", "hyperband", "median", "successive_halving", "wilcoxon", "none"] = "auto"
    """Method that stops unpromising trials. auto = hyperband; with at least 4 repeats wilcoxon; none with `against`."""
    objective: Literal["macro_f1", "macro_ap", "micro_f1"] = "macro_f1"
    """Dev score to maximise; F1 uses cross-fitted thresholds."""
    against: Literal["none", "latency", "size"] = "none"
    """Second objective, to minimise: milliseconds for one text, which needs workers=1 on one machine, or megabytes of
    weights. The report shows the Pareto front."""
    reports: int = 6
    """Scores of a training that the pruner sees, about; it judges after a third of them. Each costs an evaluation."""
    repeats: int = 1
    """Trainings of each trial, each with another seed; the score of the trial is their mean."""
    grid_points: int = 3
    """Values of each range with sampler=grid."""
    trial_minutes: float = 0.0
    """Minutes after which a training has failed; 0 = no limit."""
    max_failures: int = 3
    """Failed trials in a row after which the search stops."""
    warm_start: str = ""
    """Experiment whose best runs on the same data are the first trials, after the shipped settings."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            require(name, getattr(self, name), low <= getattr(self, name) <= high, f"be in [{low}, {high}]")
        on_grid = self.sampler == "grid" or self.grid_points == SearchConfig.grid_points
        require("grid_points", self.grid_points, on_grid, "be left out unless sampler=grid")
        require_count("workers", self.workers, _MAX_WORKERS)
        require("trial_minutes", self.trial_minutes, 0 <= self.trial_minutes < 1e6, "be at least 0 (no limit)")
        if self.pruner == "wilcoxon":
            require("repeats", self.repeats, self.repeats >= _SEEDED_TESTS, "be at least 4 for pruner=wilcoxon")
        elif self.repeats > 1:  # the other pruners compare the steps of one training
            allowed = self.pruner in ("auto", "none")
            require("pruner", self.pruner, allowed, "be auto, wilcoxon or none with repeats above 1")
        if self.against == "latency":
            alone = self.workers in ("auto", "1")
            require("workers", self.workers, alone, "be 1 with against=latency, which other trainings would change")
        if self.against != "none":
            allowed = self.pruner in ("auto", "none")
            require("pruner", self.pruner, allowed, "be auto or none with a second objective")
            # Optuna reports to a pruner, and runs CMA-ES, for one objective only.
            require("sampler", self.sampler, self.sampler != "cmaes", "not be cmaes with a second objective")
        if self.sampler == "grid":  # earlier runs are no points of the grid
            require("warm_start", self.warm_start, not self.warm_start, "be empty with sampler=grid")

    @property
    def active_workers(self) -> str:
        """The workers, with `auto` resolved where latency is measured: 1."""
        return "1" if self.against == "latency" else self.workers

    @property
    def active_pruner(self) -> str:
        """The pruner, with `auto` resolved."""
        if self.pruner != "auto":
            return self.pruner
        if self.against != "none" or 1 < self.repeats < _SEEDED_TESTS:
            return "none"
        return "hyperband" if self.repeats == 1 else "wilcoxon"


@dataclass(frozen=True, kw_only=True)
class FinalsConfig:
    """The finals: the best trials, trained again with fresh seeds."""

    top_k: int = 3
    """Best trials that are trained again to the end; 0 = no finals and no winner."""
    seeds: int = 3
    """Trainings of each of them, with seeds that the search has not used."""
    promote: bool = False
    """Run `promote` with the winner afterwards."""
    retrain_on_dev: bool = False
    """Train the winner once more on train and dev together, with its thresholds; that model is promoted then."""

    def __post_init__(self) -> None:
        require("top_k", self.top_k, 0 <= self.top_k <= _MAX_FINALS, f"be in [0, {_MAX_FINALS}]")
        require("seeds", self.seeds, 1 <= self.seeds <= _MAX_FINALS, f"be in [1, {_MAX_FINALS}]")
        without_finals = self.top_k == 0 and self.seeds != FinalsConfig.seeds
        require("seeds", self.seeds, not without_finals, "be left out with top_k=0")
        for name in ("promote", "retrain_on_dev"):
            require(name, getattr(self, name), self.top_k > 0 or not getattr(self, name), "be false with top_k=0")


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Search settings with Optuna, train the best trials again with new seeds, and report the winner.

    Settings of `train` may be given too; all trials share them.
    """

    study: StudyConfig = field(default_factory=StudyConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    finals: FinalsConfig = field(default_factory=FinalsConfig)

    def __post_init__(self) -> None:
        is_alone = self.search.against != "latency" or not self.study.worker
        require("worker", self.study.worker, is_alone, "be false with against=latency, measured on one machine")
