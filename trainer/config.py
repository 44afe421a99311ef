"""Settings of a training run: the configurations of its components."""

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainer.core import environment, presets, run_folder, settings
from trainer.core.artifacts import REGISTERED_MODEL
from trainer.core.errors import SettingsError, shorten
from trainer.core.model_names import check_model_name
from trainer.core.settings import require, require_count
from trainer.data.config import DataConfig
from trainer.fit.config import FitConfig
from trainer.model.config import LossConfig, ModelConfig
from trainer.model.location import locate_encoder
from trainer.model.losses.table import unused_settings

__all__ = [
    "PRESETS",
    "EvaluationConfig",
    "RunConfig",
    "TrainConfig",
    "check_read",
    "check_runnable",
    "parse",
    "run_parameters",
    "unread_settings",
]

_EXAMPLE = "mlflow run . -e train -P preset=goemotions-minilm -P dataset=FOLDER -P epochs=4"
PRESETS = Path(__file__).parent / "presets"
_MAX_PROCESSES = 1024  # on one machine; without GPUs the launcher allows fewer
_OF_THIS_COMMAND = ("output", "read_test")
"""Settings that a resumed run does not take from its earlier process."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The run as a whole: preset, seed, processes, output."""

    preset: str = "starter"
    """Name of a shipped preset, or path of a YAML file of settings; flags override it."""
    seed: int = 42
    """Seed of weights, dropout, order of examples, folds and threshold folds."""
    processes: str = "auto"
    """Number of processes that train one model, or auto = one per GPU, or one without GPUs."""
    output: str = "runs"
    """Folder for run folders (checkpoints, results, event log), relative to the current folder."""
    register: bool = False
    """Register the model as a new version of `registered_model`."""
    registered_model: str = REGISTERED_MODEL
    """Registered model of this data set. Its versions have the same labels: other labels need another name."""
    read_test: bool = True
    """Read the test split at the end and save a model. false: scores on dev and no model, as the trials of a search
    do; `resume` with read_test=true completes such a run."""
    retrain_from: str = ""
    """Id of a finished run, whose folder is in `output`, to train again on train and dev together. The run keeps the
    calibration and thresholds of that run, which were fitted while dev was held out, and stops at the same fraction
    of the schedule as its best weights. Other settings but `seed` must be the same."""
    resume: str = ""
    """Id of a stopped run to continue, or `latest`. Its settings are taken from the run; flags must not contradict."""

    def __post_init__(self) -> None:
        require_count("processes", self.processes, _MAX_PROCESSES)
        check_model_name(self.registered_model)
        require("seed", self.seed, 0 <= self.seed < 2**32, "be in [0, 2^32)")  # what NumPy takes
        without_model = self.register and not self.read_test
        require("register", self.register, not without_model, "be false with read_test=false, which keeps no model")
        without_scores = bool(self.retrain_from) and not self.read_test
        require("read_test", self.read_test, not without_scores, "be true with retrain_from, which trains on dev")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Calibration, thresholds and scores after training."""

    calibration: Literal["auto", "none", "temperature", "platt"] = "auto"
    """Map from logits to probabilities, fitted on dev: logits divided by a temperature, or also shifted (platt);
    auto = the best by cross-validation on dev, the simpler one unless another is better beyond a standard error."""
    threshold_policy: Literal["auto", "fixed", "global", "per_label_shrunk", "per_label"] = "auto"
    """Threshold policy of `test/macro_f1` and of the served model; auto = the best by cross-validation on
    dev, a simpler one unless another is better beyond a standard error."""
    threshold_folds: int = 5
    """Folds of dev over which calibration and thresholds are cross-fitted."""
    bootstrap_resamples: int = 1000
    """Bootstrap resamples of the examples for each 95 % interval."""

    def __post_init__(self) -> None:
        # Nested cross-validation needs three: one fold to score, one to choose on, the rest to fit on.
        require("threshold_folds", self.threshold_folds, 3 <= self.threshold_folds <= 20, "be in [3, 20]")
        resamples = self.bootstrap_resamples
        require("bootstrap_resamples", resamples, 100 <= resamples <= 100_000, "be in [100, 100000]")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a text classifier, choose thresholds on dev, evaluate it on test, and track everything in MLflow.

    Every setting below also works with `mlflow run . -e train -P name=value`. The values shown are those of the
    preset; `--preset NAME --help` shows another one.
    """

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @property
    def name(self) -> str:
        """Return the name of the run, such as `starter-combined-42`."""
        return f"{Path(self.data.dataset).name}-{self.loss.loss}-{self.run.seed}"


def parse(argv: Sequence[str]) -> TrainConfig:
    """Return the training settings of a command line; with `resume`, those of the run to resume.

    Raises SettingsError as `trainer.core.settings.parse` does, when a flag has no effect with the other settings, and
    when a flag, or a preset that is not the default, contradicts the settings of the run to resume. Raises ModelError
    for a model that cannot exist.
    """
    config, names = settings.parse(TrainConfig, argv, PRESETS, example=_EXAMPLE), settings.names_given(argv)
    for name in ("resume", "retrain_from"):
        if name in names and not getattr(config.run, name):  # an unset variable must not start another run
            raise SettingsError(f"`{name}` must not be empty. Leave it out for a new run.")
    if os.environ.get("RANK", "0") != "0":  # the other processes get the settings of the main one
        return config
    if config.run.resume:
        config = _resumed(config, names)
    check_read(config, names)
    check_runnable(config)
    return config


def check_read(config: TrainConfig, names: Iterable[str], place: str = "") -> None:
    """Raise SettingsError for a named setting that this configuration does not read. place: where it was given."""
    unread = unread_settings(config)
    for name in names:
        if name in unread:
            raise SettingsError(f"`{name}` has no effect with {unread[name]}{place}. Leave it out.")


def check_runnable(config: TrainConfig) -> None:
    """Raise SettingsError or ModelError for what ends every training with these settings before it begins."""
    environment.check_launcher_variables()
    locate_encoder(config.model)


def run_parameters(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that are parameters of the run; config.json has all."""
    unread = unread_settings(config)
    flat = run_folder.what_is_trained(settings.flatten(config))
    return {name: value for name, value in flat.items() if name not in unread}


def unread_settings(config: TrainConfig) -> dict[str, str]:
    """Return the settings that this configuration does not read, each with the setting that decides so."""
    loss, fit = config.loss, config.fit
    unread = dict.fromkeys(unused_settings(loss.loss, vars(loss)), f"loss={loss.loss}")
    if loss.class_weights != "effective_number":
        unread.setdefault("effective_number_beta", f"class_weights={shorten(loss.class_weights)}")
    if not config.data.folds:
        unread["fold"] = "folds=0"
    if fit.schedule != "cosine_with_restarts":
        unread["restarts"] = f"schedule={fit.schedule}"
    if fit.tokens_per_batch:
        unread["batch_size"] = f"tokens_per_batch={fit.tokens_per_batch}"
    return unread


def _resumed(config: TrainConfig, names: Collection[str]) -> TrainConfig:
    flat, defaults = settings.flatten(config), settings.flatten(TrainConfig())
    # `mlflow run` gives the default preset as if the user had.
    preset = {} if config.run.preset == defaults["preset"] else presets.load_preset(config.run.preset, PRESETS)
    given = {name: flat[name] for name in (*names, *preset, *_OF_THIS_COMMAND)}
    folder = run_folder.find_resumable(Path(config.run.output), config.run.resume, given, defaults)
    kept = {name: value for name, value in run_folder.read_config(folder).items() if name in defaults}
    if config.run.preset == defaults["preset"]:
        given.pop("preset", None)  # not chosen by the user, so the run keeps its preset
    return settings.from_flat(TrainConfig, {**kept, **given, "resume": folder.name}, origin=f"run {folder.name}")
