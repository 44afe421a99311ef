"""Opens the study of a command and its MLflow run, and runs trials in it: what a search and a comparison share."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from trainer.core import artifacts, signals
from trainer.core.errors import TuningError
from trainer.reporting import console
from trainer.tracking.backend import MlflowBackend
from trainer.tracking.run import Tracker, open_run
from tuning.execution.executor import Executor
from tuning.execution.objective import Objective, Phase
from tuning.execution.optimize import Optimizer
from tuning.execution.resources import ResourcePool, Resources
from tuning.execution.runs import Runs, find_run
from tuning.study import trials
from tuning.study.command_lock import Lead, lead
from tuning.study.journal import JOURNAL, import_study, names_in_journal
from tuning.study.storage import (
    DATABASE,
    RUN,
    Direction,
    close_storage,
    create_numbered_study,
    create_or_load_study,
    load_study,
    open_storage,
)
from tuning.study.trials import Attribute

__all__ = ["OpenStudy", "StudyRequest", "open_study", "reach_storage"]


@dataclass(frozen=True, kw_only=True)
class StudyRequest:
    """The study of a command. Nothing has been created."""

    command: str
    """`tune` or `compare`."""
    setting: str
    """The setting that names the study."""
    name: str
    """Empty for a new study with a number."""
    prefix: str
    """What the name of a new study begins with."""
    is_worker: bool
    output: Path
    about: Mapping[str, Any]
    """The values that make two commands the same study."""
    directions: Sequence[Direction]
    parameters: Mapping[str, object]
    """Of the study's run."""
    configure: Callable[[optuna.Study], None]
    """Sets sampler and pruner."""
    prepare: Callable[[optuna.Study, Tracker], None]
    """Queues the first trials; not called by workers."""


@dataclass(frozen=True, kw_only=True)
class OpenStudy:
    """A study with its run, ready for trials."""

    storage: RDBStorage
    study: optuna.Study
    tracker: Tracker | None
    """Of the study's run; None with worker=true."""
    runs: Runs
    executor: Executor
    screen: console.Console
    stop: threading.Event
    keep_lead: Callable[[], None] = lambda: None
    """Takes the lock of the study again if it was lost; raises TuningError when another command has it."""

    def optimize(
        self,
        study: optuna.Study,
        phase: Phase,
        workers: Sequence[Resources],
        max_failures: int,
        on_trial: Callable[[optuna.Study, FrozenTrial], None] | None = None,
    ) -> None:
        """Run the trials of a phase to the end of the last. Raises TuningError after too many failures in a row."""
        objective = Objective(phase, self.executor, self.runs, ResourcePool(workers), self.stop)
        with signals.note_stops(self.stop.set):
            Optimizer(study, objective, len(workers), max_failures, self.screen, on_trial, self.keep_lead).run()

    def close_abandoned_runs(self, output: Path, studies: Sequence[optuna.Study]) -> None:
        """Leave no run of these studies RUNNING, unless workers run trials: a larger `trials` was given to them."""
        known = [trial for study in studies for trial in trials.counted(study)]
        if any(trial.state == TrialState.RUNNING for trial in known):
            return
        states = {
            run: trials.state(trial)
            for trial in known
            if trial.state.is_finished()
            for run in trial.user_attrs.get(Attribute.RUNS, {}).values()
        }
        self.runs.close_abandoned(output, states)


@contextmanager
def reach_storage(output: Path) -> Iterator[RDBStorage]:
    """Open the storage of studies for the block. Raises TuningError when its database does not answer."""
    try:
        storage = open_storage(output)
        try:
            yield storage
        finally:
            close_storage(storage)
    except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError):  # the locks of commands do not go through Optuna
        raise TuningError(
            "Cannot reach the database of the study. Start it and run the same command again; nothing is lost."
        ) from None  # the error may repeat the password


@contextmanager
def open_study(
    storage: RDBStorage, request: StudyRequest, store: MlflowBackend, executor: Executor, screen: console.Console
) -> Iterator[OpenStudy]:
    """Open the study of a request: create it with its run, continue it, or help as a worker.

    Raises TuningError for the study, TrackingError for the server.
    """
    with ExitStack() as stack:
        study, held = stack.enter_context(_lead_or_help(storage, request, screen))
        request.configure(study)
        tracker = None if request.is_worker else stack.enter_context(_open_study_run(study, request, store))
        if request.is_worker:
            stack.enter_context(_worker_environment())
        yield OpenStudy(
            storage=storage,
            study=study,
            tracker=tracker,
            runs=Runs(store, find_run(store, study.user_attrs[RUN])),
            executor=executor,
            screen=screen,
            stop=threading.Event(),
            keep_lead=held.keep if held else lambda: None,
        )


@contextmanager
def _lead_or_help(
    storage: RDBStorage, request: StudyRequest, screen: console.Console
) -> Iterator[tuple[optuna.Study, Lead | None]]:
    """Give an existing study to a worker; give another command the study that it alone leads, and the lock of it."""
    if request.is_worker:
        study = load_study(storage, request.name, request.about, setting=request.setting)
        if RUN not in study.user_attrs:
            raise TuningError(
                f"Study {study.study_name} has no MLflow run yet. Wait until the command without worker=true has begun."
            )
        yield study, None
        return
    name = request.name or _create_study(storage, request)
    with lead(storage, name) as held:  # before the import and the creation, which two commands must not do together
        if import_study(request.output, storage, name):
            screen.show_note(f"study {name} was copied from {JOURNAL} to {DATABASE}")
        yield create_or_load_study(storage, name, request.about, request.directions, setting=request.setting), held


def _create_study(storage: RDBStorage, request: StudyRequest) -> str:
    """Create a study with a number and return its name."""
    taken = names_in_journal(request.output, storage)  # an earlier study is continued by its name
    return create_numbered_study(storage, request.prefix, request.about, request.directions, taken=taken).study_name


@contextmanager
def _open_study_run(study: optuna.Study, request: StudyRequest, store: MlflowBackend) -> Iterator[Tracker]:
    """Open the MLflow run of the study, which the first command creates and later ones resume."""
    run_id = study.user_attrs.get(RUN)
    if run_id is not None:
        find_run(store, run_id)
    with open_run(
        request.output,
        name=f"{request.command} {study.study_name}",
        resume=run_id,
        parameters=request.parameters,
        tags={artifacts.TAG_COMMAND: request.command, artifacts.TAG_STUDY: study.study_name},
    ) as tracker:
        request.prepare(study, tracker)
        study.set_user_attr(RUN, tracker.run_id)  # after the initial trials: it lets workers begin
        yield tracker


@contextmanager
def _worker_environment() -> Iterator[None]:
    """Hide the run that `mlflow run` created: a worker has none, and trainings must not write to it."""
    hidden = os.environ.pop("MLFLOW_RUN_ID", None)
    try:
        yield
    finally:
        if hidden is not None:
            os.environ["MLFLOW_RUN_ID"] = hidden  # an error or a stop is reported to it
