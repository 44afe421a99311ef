"""The settings of a training run, put together from those of its parts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trainer.core import settings
from trainer.core.errors import SettingsError
from trainer.data.config import DataConfig
from trainer.fit.config import FitConfig
from trainer.model.config import LossConfig, ModelConfig

__all__ = ["PRESETS", "EvaluationConfig", "RunConfig", "TrainConfig", "parse"]

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The run as a whole: preset, seed, processes, where results go."""

    preset: str = "starter"
    """Name of a shipped preset, or path of a YAML file of settings; flags override it."""
    seed: int = 42
    """Seed of weights, dropout, order of rows and threshold folds."""
    processes: str = "auto"
    """Processes that train together: a number, or auto = one per GPU, one without GPUs."""
    output: str = "runs"
    """Folder for run folders (checkpoints, results, metric spool), relative to the current folder."""
    register: bool = False
    """Make the model a new version of the registered model `emotions`."""
    read_test: bool = True
    """Read the test split at the end, and keep a model. false: scores on dev alone and no model, as the trials of a
    search; `resume` with true completes such a run."""
    retrain_from: str = ""
    """Run id (its folder is in output) of a finished run of the same data to train again on train and dev together:
    for as much of its schedule as its best weights had taken, with its temperature and thresholds, which were fitted
    while dev was held out. All else but seed must be as it was."""
    resume: str = ""
    """Run id of a killed run to continue, or `latest`; all else must be as it was."""

    def __post_init__(self) -> None:
        if self.processes != "auto" and not (self.processes.isdecimal() and int(self.processes) >= 1):
            raise SettingsError(f"processes must be `auto` or a number of at least 1, but got {self.processes=}.")
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"seed must be in [0, 2^32), but got {self.seed=}.")
        if self.register and not self.read_test:
            raise SettingsError(
                f"register must be false without a model, but got {self.register=}, {self.read_test=}. "
                "Register when test has been read."
            )
        if self.retrain_from and not self.read_test:
            raise SettingsError(
                f"read_test must be true when dev is trained on, but got {self.read_test=}, {self.retrain_from=}. "
                "There would be nothing to measure."
            )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is made of dev and test logits after training."""

    threshold_policy: Literal["auto", "fixed", "global", "per_label", "per_label_shrunk"] = "auto"
    """Policy behind `test/macro_f1` and the served model; auto = the one cross-validation on dev favours."""
    threshold_folds: int = 5
    """Folds of dev over which thresholds are cross-fitted."""
    bootstrap_resamples: int = 1000
    """Resamples of the rows behind each 95 % interval."""

    def __post_init__(self) -> None:
        if not 3 <= self.threshold_folds <= 20:  # nested: one fold is scored, one chosen on, the rest fitted on
            raise SettingsError(f"threshold_folds must be in [3, 20], but got {self.threshold_folds=}.")
        if not 100 <= self.bootstrap_resamples <= 100_000:
            raise SettingsError(f"bootstrap_resamples must be in [100, 100000], but got {self.bootstrap_resamples=}.")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Every setting of `train`."""

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    encoder: ModelConfig = field(default_factory=ModelConfig)
    objective: LossConfig = field(default_factory=LossConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


def parse(argv: Sequence[str]) -> TrainConfig:
    """Training settings of a command line; see `trainer.core.settings.parse` for errors."""
    return settings.parse(TrainConfig, argv, PRESETS)
