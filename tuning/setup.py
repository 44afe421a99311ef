"""Opens a search: settings checked, study and its MLflow run created or loaded, initial trials queued."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from trainer.core import artifacts
from trainer.core.errors import SettingsError, nearest
from trainer.core.run_folder import RUNTIME_AND_DATASET, what_is_trained
from trainer.core.settings import flatten, quote
from trainer.model.losses.table import LOSSES
from trainer.reporting import console
from trainer.tracking.backend import MlflowBackend
from trainer.tracking.connection import connect
from trainer.tracking.refusals import check_registry_right
from tuning.config import SearchConfig, TuneConfig
from tuning.execution.executor import Executor
from tuning.execution.objective import COSTS
from tuning.execution.resources import Resources, assign_machine, gpu_names
from tuning.execution.runs import best_runs
from tuning.open_study import OpenStudy, StudyRequest, open_study, reach_storage
from tuning.space.grid import make_grid
from tuning.space.parser import SPACES, read_space
from tuning.space.space import Space
from tuning.space.warm_start import enqueue_known
from tuning.study.pruners import make_pruner
from tuning.study.samplers import make_sampler
from tuning.study.storage import Direction, name_objectives
from tuning.training_settings import TrainingSettings, check_given, check_space, read_training_settings

__all__ = ["OpenSearch", "SearchRequest", "open_search", "read_request"]

_QUEUED = "queued"
"""Study attribute: True once the initial trials are queued."""
_EARLIER_RUNS = 5


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """What to search, over which space, with which resources. Nothing has been created."""

    config: TuneConfig
    training: TrainingSettings
    losses: tuple[str, ...]
    space: Space
    grid: Sequence[Mapping[str, Any]]
    """Every trial, with sampler=grid."""
    workers: Sequence[Resources]
    machine: Resources
    """For a training that runs alone."""
    earlier: Sequence[Mapping[str, str]]
    """Settings of the best runs of `warm_start`."""

    @property
    def total(self) -> int:
        """Trials of the study in all."""
        return len(self.grid) or self.config.search.trials

    @property
    def directions(self) -> list[Direction]:
        """The direction of each objective."""
        return ["maximize"] if self.config.search.against == "none" else ["maximize", "minimize"]

    @property
    def metrics(self) -> list[str]:
        """The metric of each objective."""
        search = self.config.search
        second = [COSTS[search.against]] if search.against != "none" else []
        return [artifacts.metric("dev", search.objective), *second]

    @property
    def about(self) -> dict[str, Any]:
        """The values that make two commands the same search."""
        search = self.config.search
        training = {name: value for name, value in self.training.values.items() if name not in RUNTIME_AND_DATASET}
        return {
            "objective": search.objective,
            "against": search.against,
            "repeats": search.repeats,
            "reports": search.reports,
            "losses": list(self.losses),
            "space": self.space.describe(),
            "settings": training,
            "data": dict(self.training.data["digests"]),
            "label_names": self.training.data["label_names"],
            **({"sampler": "grid", "grid_points": search.grid_points} if search.sampler == "grid" else {}),
        }


@dataclass(frozen=True, kw_only=True)
class OpenSearch(OpenStudy):
    """The study of a search with its run, ready for trials."""

    request: SearchRequest


@contextmanager
def open_search(
    config: TuneConfig, given: Mapping[str, Any], executor: Executor, screen: console.Console
) -> Iterator[OpenSearch]:
    """Open the search of these settings; all checks run before anything is created.

    given: settings of `train` that all trials share.
    Raises SettingsError and DataError for what is wrong, TuningError for the study, TrackingError for the server.
    """
    store = connect()
    request = read_request(config, given, store)
    if config.finals.promote:
        check_registry_right(store, request.training.values["registered_model"])  # now, not after the search
    with (
        reach_storage(Path(config.study.output)) as storage,
        open_study(storage, _study_request(request, screen), store, executor, screen) as opened,
    ):
        yield OpenSearch(request=request, **vars(opened))


def _study_request(request: SearchRequest, screen: console.Console) -> StudyRequest:
    config = request.config

    def configure(study: optuna.Study) -> None:
        study.sampler = _make_sampler(study, request)
        study.pruner = make_pruner(config.search)
        name_objectives(study, request.metrics)

    return StudyRequest(
        command="tune",
        setting="study",
        name=config.study.study,
        prefix=Path(request.training.values["preset"]).stem,
        is_worker=config.study.worker,
        output=Path(config.study.output),
        about=request.about,
        directions=request.directions,
        parameters=what_is_trained({**request.training.values, **flatten(config)}),
        configure=configure,
        prepare=lambda study, _tracker: _enqueue_initial_trials(study, request, screen),
    )


def read_request(config: TuneConfig, given: Mapping[str, Any], store: MlflowBackend) -> SearchRequest:
    """Return the checked request of these settings.

    Raises SettingsError and DataError for what is wrong with them, TrackingError for an unknown `warm_start`.
    """
    search = config.search
    own = {"seed": config.study.seed, "output": config.study.output}
    training = read_training_settings(_with_single_loss(search.losses, given), own)
    losses = _losses(search.losses, training, given)
    space = read_space(_space_name(search.space, training), training.values, training.components, losses, [*given])
    check_space(space, training)
    check_given(training, losses, space)
    gpus, processes = gpu_names(), training.values["processes"]
    return SearchRequest(
        config=config,
        training=training,
        losses=losses,
        space=space,
        grid=make_grid(space, search.grid_points, search.trials) if search.sampler == "grid" else (),
        workers=assign_machine(search.active_workers, processes, gpus),
        machine=assign_machine("1", processes, gpus)[0],
        earlier=_earlier_configurations(store, search, training) if search.warm_start else (),
    )


def _earlier_configurations(
    store: MlflowBackend, search: SearchConfig, training: TrainingSettings
) -> Sequence[Mapping[str, str]]:
    digests = {role: training.data["digests"][role] for role in ("train", "dev")}
    return best_runs(store, search.warm_start, artifacts.metric("dev", search.objective), digests, _EARLIER_RUNS)


def _make_sampler(study: optuna.Study, request: SearchRequest) -> optuna.samplers.BaseSampler:
    config = request.config
    # The same seed after a resume would suggest the same trials again; workers must differ from each other.
    seed = None if config.study.worker else config.study.seed + len(study.get_trials(deepcopy=False))
    return make_sampler(config.search, seed, len(request.workers))


def _enqueue_initial_trials(study: optuna.Study, request: SearchRequest, screen: console.Console) -> None:
    search = request.config.search
    if _QUEUED in study.user_attrs:
        if search.warm_start:
            screen.show_note(f"warm_start={search.warm_start} adds no trials: the study has begun")
        return
    for point in request.grid:
        study.enqueue_trial(dict(point), skip_if_exists=True)  # a killed command has queued some
    if not request.grid:
        enqueue_known(study, request.space, request.losses, request.training.presets, request.earlier)
    if search.warm_start:
        screen.show_note(f"warm start: {len(request.earlier)} configurations from {search.warm_start} on the same data")
    study.set_user_attr(_QUEUED, value=True)  # last: after a kill the next command queues those that are missing


def _with_single_loss(losses: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that all trials share, with the loss if `losses` names only one."""
    return {**given, "loss": losses.strip()} if losses and "," not in losses else dict(given)


def _losses(losses: str, training: TrainingSettings, given: Mapping[str, Any]) -> tuple[str, ...]:
    if not losses:
        return (training.values["loss"],)
    if "loss" in given:
        raise SettingsError(f"`loss` must be left out when `losses` is given, got {quote(given['loss'])}.")
    names = tuple(part.strip() for part in losses.split(","))
    if len(set(names)) < len(names):
        raise SettingsError(f"`losses` must name each loss once, got {quote(losses)}.")
    for name in names:
        if name not in LOSSES:
            raise SettingsError(f"`losses` must name {', '.join(LOSSES)}, got {quote(name)}.{nearest(name, LOSSES)}")
    return names


def _space_name(space: str, training: TrainingSettings) -> str:
    if space != "auto":
        return space
    preset = training.values["preset"]
    return preset if (SPACES / f"{preset}.yaml").is_file() else "default"
