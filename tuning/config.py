"""The settings of a search."""

from dataclasses import dataclass, field
from typing import Literal

from trainer.core.settings import require

__all__ = ["FinalsConfig", "SearchConfig", "StudyConfig", "TuneConfig"]

_SEEDED_TESTS = 4  # with fewer pairs the signed-rank test cannot fall below the 0.1 that prunes


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Which study, and where it is kept. OPTUNA_STORAGE in the environment names a database for many machines."""

    study: str = ""
    """Name of the study. One that exists is continued; empty makes a new one and says its name."""
    worker: bool = False
    """Only add workers to an existing study, on this or another machine. The command without it runs finals and
    report."""
    output: str = "runs"
    """Folder for run folders and, without OPTUNA_STORAGE, the studies (optuna.db), relative to the current one."""
    seed: int = 42
    """Seed of the sampler and of every training of the search; the finals take the seeds after it. With one worker, the
    same seed and the same name (on which hyperband's brackets depend) repeat a search."""

    def __post_init__(self) -> None:
        require("study", self.study, self.study == self.study.strip(), "not begin or end with a space")
        require("seed", self.seed, 0 <= self.seed < 2**31, "be in [0, 2^31)")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What is searched, how, and with which means."""

    trials: int = 10
    """Trials of the study in all, those of earlier commands and other machines included."""
    workers: str = "auto"
    """Trials at a time, each with its share of cores or GPUs: a number, or auto = as many as the GPUs allow, else one
    for each core, four at most."""
    losses: str = ""
    """Losses to search over, with commas between them; empty = the loss of the preset."""
    space: str = "auto"
    """What is varied: name of a shipped space, or path of a YAML file. auto = the one named like the preset, else
    `default`."""
    sampler: Literal["tpe", "gp", "cmaes", "random", "grid"] = "tpe"
    """What suggests the next trial. gp, which loads torch, and cmaes are for continuous settings and one loss; grid
    takes evenly spaced values."""
    pruner: Literal["auto", "hyperband", "median", "successive_halving", "wilcoxon", "none"] = "auto"
    """What stops a bad trial early. auto = hyperband; with repeats wilcoxon; none with `against`."""
    objective: Literal["macro_f1", "macro_ap", "micro_f1"] = "macro_f1"
    """Dev score to maximise; F1 is taken with cross-fitted thresholds."""
    against: Literal["none", "latency", "size"] = "none"
    """Second goal, to minimise: milliseconds for one text, or megabytes of weights. Shown as a Pareto front."""
    reports: int = 6
    """Scores of a training that a pruner sees, about; it judges from a third of them on. More cost evaluations."""
    repeats: int = 1
    """Trainings per trial, with as many seeds; its score is their mean."""
    grid_points: int = 3
    """Values taken from each range with sampler=grid."""
    trial_minutes: float = 0.0
    """Longest time for one training, after which it counts as failed; 0 = any."""
    max_failures: int = 3
    """Failed trials in a row after which the search stops."""
    warm_start: str = ""
    """Experiment whose best runs on the same data are tried first, after the shipped settings."""

    def __post_init__(self) -> None:
        for name in ("trials", "repeats", "max_failures"):
            require(name, getattr(self, name), getattr(self, name) >= 1, "be at least 1")
        for name in ("reports", "grid_points"):
            require(name, getattr(self, name), getattr(self, name) >= 2, "be at least 2")
        is_count = self.workers.isdecimal() and int(self.workers) >= 1
        require("workers", self.workers, self.workers == "auto" or is_count, "be `auto` or a number of at least 1")
        require("trial_minutes", self.trial_minutes, 0 <= self.trial_minutes < 1e6, "be at least 0; 0 = any")
        if self.pruner == "wilcoxon":
            require("repeats", self.repeats, self.repeats >= _SEEDED_TESTS, "be at least 4 for pruner=wilcoxon")
        elif self.repeats > 1:
            allowed = self.pruner in ("auto", "none")
            require("pruner", self.pruner, allowed, "be auto, wilcoxon or none with repeats above 1")
        if self.against == "latency":
            alone = self.workers in ("auto", "1")
            require("workers", self.workers, alone, "be 1 with against=latency, which other trainings would change")
        if self.against != "none":
            allowed = self.pruner in ("auto", "none")
            require("pruner", self.pruner, allowed, "be auto or none with two goals, which nothing can prune by")
            require("sampler", self.sampler, self.sampler != "cmaes", "be another than cmaes with two goals")
        if self.sampler == "grid":
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
    """What follows the search: the best settings again, with other seeds."""

    top_k: int = 3
    """Best settings that are trained again to the end; 0 = none, the search is all."""
    seeds: int = 3
    """Trainings of each of them, with as many seeds that the search has not used."""
    promote: bool = False
    """Hand the winner's model to `promote` at once."""
    retrain_on_dev: bool = False
    """Train the winner once more on train and dev together, with its thresholds; that model is the candidate then."""

    def __post_init__(self) -> None:
        require("top_k", self.top_k, self.top_k >= 0, "be at least 0")
        require("seeds", self.seeds, self.seeds >= 1, "be at least 1")
        for name in ("promote", "retrain_on_dev"):
            require(name, getattr(self, name), self.top_k > 0 or not getattr(self, name), "be false with top_k=0")


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Every setting of `tune`. All settings of `train` work beside them: they hold for every trial."""

    study: StudyConfig = field(default_factory=StudyConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    finals: FinalsConfig = field(default_factory=FinalsConfig)

    def __post_init__(self) -> None:
        is_alone = self.search.against != "latency" or not self.study.worker
        require("worker", self.study.worker, is_alone, "be false with against=latency, measured on one machine")
