"""Opens a search: everything checked, the study in its storage, a place in it, and the study's run for who leads."""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import optuna

from trainer.core import artifacts, signals
from trainer.core.errors import TuningError
from trainer.core.settings import flatten
from trainer.reporting import console
from trainer.tracking.connection import connect
from trainer.tracking.run import Tracker, open_run
from tuning.config import TuneConfig
from tuning.driver import Driver
from tuning.execution.runs import Runs, find_run
from tuning.leader import Place, open_claims, take_place
from tuning.pipeline import Search
from tuning.preparation import Task, prepare
from tuning.space import warm_start
from tuning.study import storage as study

__all__ = ["open_search"]

_QUEUED = "queued"
"""Study attribute: whether the trials that are known from the start wait in the queue."""


@contextmanager
def open_search(config: TuneConfig, of_training: Mapping[str, str]) -> Iterator[Search]:
    """The search of these settings, its study and run open. Everything that can be wrong is found before that.

    of_training: settings of `train` that all trials share, as text.
    Raises SettingsError for wrong settings, TuningError for the storage and the study, TrackingError for the server.
    """
    screen, store = console.make(), connect()
    task = prepare(config, of_training, store)
    with _storage_errors(), ExitStack() as stack:
        storage = study.open_storage(Path(config.study.output))
        stack.callback(study.close_storage, storage)
        preset = Path(task.trainable.settings["preset"]).stem
        opened = study.open_study(storage, config.study.study, task.about, task.goals, prefix=preset)
        place = take_place(opened, open_claims(storage, opened), screen.show_note)
        # A sampler that is seeded alike after a resume would suggest what it has suggested before.
        seed = config.study.seed + len(opened.get_trials(deepcopy=False))
        opened.sampler = study.make_sampler(config.search, seed if place.leads else None)
        opened.pruner = study.make_pruner(config.search)
        parent = None if place.run_id is None else find_run(store, place.run_id)
        os.environ["OMP_NUM_THREADS"] = str(task.shares[0].threads)  # what trainings load first reads it once
        tracker = stack.enter_context(_lead(task, opened, place, screen) if place.leads else _help())
        runs = Runs(store, parent or find_run(store, str(place.run_id)))
        driver = Driver(task.shares, runs, screen, config.search.max_failures, place.beat)
        yield Search(task, storage, opened, place, tracker, screen, driver)


@contextmanager
def _storage_errors() -> Iterator[None]:
    """What the storage refuses where it is not waited for, in words; the error itself may hold its password."""
    try:
        yield
    except optuna.exceptions.StorageInternalError:
        raise TuningError(
            "storage of the study must answer, but got no answer. Start it, and give the same command again: nothing "
            "is lost."
        ) from None


@contextmanager
def _lead(task: Task, opened: optuna.Study, place: Place, screen: console.Console) -> Iterator[Tracker]:
    """The study's run, which the others are told of when the first trials wait."""
    with open_run(
        Path(task.config.study.output),
        resume=place.run_id,
        parameters={**task.trainable.settings, **flatten(task.config)},
        tags={artifacts.TAG_COMMAND: "tune", artifacts.TAG_STUDY: opened.study_name},
    ) as tracker:
        _fill(opened, task, screen)
        place.lead(tracker.run_id)
        yield tracker


@contextmanager
def _help() -> Iterator[None]:
    """A driver that helps has no run, and leaves that of `mlflow run` alone: its trainings must not write into it."""
    os.environ.pop("MLFLOW_RUN_ID", None)
    with signals.signal_handlers(signals.raise_system_exit, signal.SIGTERM):
        yield


def _fill(opened: optuna.Study, task: Task, screen: console.Console) -> None:
    """Queue the trials that are known from the start, once."""
    asked = task.config.search
    if _QUEUED in opened.user_attrs:
        if asked.warm_start:
            screen.show_note(f"the study has begun: warm_start={asked.warm_start} adds nothing to it")
        return
    for point in task.grid:
        opened.enqueue_trial(dict(point), skip_if_exists=True)
    if not task.grid:
        warm_start.enqueue_known(opened, task.space, task.losses, task.trainable.presets, task.earlier)
    if asked.warm_start:
        screen.show_note(f"warm start: {len(task.earlier)} earlier settings from {asked.warm_start} for the same data")
    opened.set_user_attr(_QUEUED, value=True)
