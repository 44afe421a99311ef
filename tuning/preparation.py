"""What a search is asked for, checked before anything is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.core import artifacts
from trainer.core.errors import SettingsError
from trainer.core.run_folder import RUNTIME_AND_DATASET
from trainer.tracking.backend import MlflowBackend
from tuning.config import TuneConfig
from tuning.execution.process import Share
from tuning.execution.resources import gpu_names, shares
from tuning.execution.runs import best_runs
from tuning.questions import Trainable, ask, check_space
from tuning.space.grid import make_grid
from tuning.space.parser import SPACES, read_space
from tuning.space.space import Space
from tuning.study.storage import Goal

__all__ = ["Task", "prepare"]

_EARLIER_RUNS = 5


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is searched, over what, and with which means."""

    config: TuneConfig
    trainable: Trainable
    losses: tuple[str, ...]
    space: Space
    grid: Sequence[Mapping[str, Any]]
    """Every trial, with sampler=grid."""
    shares: Sequence[Share]
    """Of the workers."""
    whole: Share
    """For a training that runs alone."""
    earlier: Sequence[Mapping[str, str]]
    """Settings of the best runs of warm_start."""

    @property
    def total(self) -> int:
        """Trials of the study in all."""
        return len(self.grid) or self.config.search.trials

    @property
    def goals(self) -> list[Goal]:
        """What is to become of each objective."""
        return ["maximize"] if self.config.search.against == "none" else ["maximize", "minimize"]

    @property
    def about(self) -> dict[str, Any]:
        """What makes two commands the same search."""
        asked = self.config.search
        return {
            "objective": asked.objective,
            "against": asked.against,
            "repeats": asked.repeats,
            "reports": asked.reports,
            "losses": list(self.losses),
            "space": self.space.describe(),
            "settings": {
                name: value for name, value in self.trainable.settings.items() if name not in RUNTIME_AND_DATASET
            },
            "data": dict(self.trainable.data["digests"]),
            "label_names": self.trainable.data["label_names"],
            **({"sampler": "grid", "grid_points": asked.grid_points} if asked.sampler == "grid" else {}),
        }


def prepare(config: TuneConfig, of_training: Mapping[str, str], store: MlflowBackend) -> Task:
    """The task of these settings. of_training: settings of `train` that all trials share, as text.

    Raises SettingsError for whatever is wrong with them, and TrackingError for a warm_start that does not exist.
    """
    asked = config.search
    trainable = ask(_shared(asked.losses, of_training), {"seed": str(config.study.seed), "output": config.study.output})
    losses = _losses(asked.losses, trainable, of_training)
    space = read_space(_space_name(asked.space, trainable), trainable.settings, trainable.known, losses, [*of_training])
    check_space(space, trainable)
    metric = artifacts.metric("dev", asked.objective)
    digests = {role: trainable.data["digests"][role] for role in ("train", "dev")}
    gpus = gpu_names()
    return Task(
        config=config,
        trainable=trainable,
        losses=losses,
        space=space,
        grid=make_grid(space, asked.grid_points, asked.trials) if asked.sampler == "grid" else (),
        shares=shares(asked.workers, trainable.settings["processes"], gpus),
        whole=shares("1", trainable.settings["processes"], gpus)[0],
        earlier=best_runs(store, asked.warm_start, metric, digests, _EARLIER_RUNS) if asked.warm_start else (),
    )


def _shared(losses: str, given: Mapping[str, str]) -> dict[str, str]:
    """What all trials share. The only one of `losses` is part of it: no trial would change it."""
    return {**given, "loss": losses.strip()} if losses and "," not in losses else dict(given)


def _losses(asked: str, trainable: Trainable, given: Mapping[str, str]) -> tuple[str, ...]:
    if not asked:
        return (trainable.settings["loss"],)
    if "loss" in given:
        raise SettingsError(
            f"losses and loss must not both be given, but got losses={asked}, loss={given['loss']}. Leave out loss."
        )
    losses = tuple(part.strip() for part in asked.split(","))
    if len(set(losses)) < len(losses):
        raise SettingsError(f"losses must be different ones, but got losses={asked}. Name each once.")
    return losses


def _space_name(asked: str, trainable: Trainable) -> str:
    if asked != "auto":
        return asked
    preset = trainable.settings["preset"]
    return preset if (SPACES / f"{preset}.yaml").is_file() else "default"
