"""Opens a comparison: configurations checked, finished runs found, study and MLflow run created or loaded."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna

from trainer.config import TrainConfig
from trainer.core import artifacts
from trainer.core.run_folder import RUNTIME_AND_DATASET, what_is_trained
from trainer.core.settings import flatten, from_flat
from trainer.core.text_files import write_json
from trainer.data import sources
from trainer.reporting import console
from trainer.tracking.backend import MlflowBackend
from trainer.tracking.connection import connect, readable_errors
from trainer.tracking.run import Tracker
from tuning.comparison.checks import check_configurations
from tuning.comparison.config import CompareConfig
from tuning.comparison.configurations import Configurations
from tuning.comparison.finished_runs import FinishedRun, find_finished
from tuning.comparison.plan import continued, describe_changes, describe_pair, make_plan, read_plan, store_plan
from tuning.comparison.results import ComparisonPlan
from tuning.comparison.trainings import Key, enqueue, keys_of, missing
from tuning.execution.executor import Executor
from tuning.execution.resources import Resources, assign_machine, gpu_names
from tuning.open_study import OpenStudy, StudyRequest, open_study, reach_storage
from tuning.study import trials
from tuning.study.storage import name_objectives
from tuning.training_settings import TrainingSettings, read_training_settings

__all__ = ["PLAN_FILE", "CompareRequest", "OpenComparison", "log_plan", "open_comparison", "read_request"]

PLAN_FILE = "plan.json"
"""Artifact of the comparison's run."""
_REFUSED = {
    "read_test": "every training of a comparison reads test",
    "register": "promote registers a model",
    "resume": "comparison=NAME continues a comparison",
    "fold": "`folds` trains every fold",
    "retrain_from": "a comparison needs dev held out",
}
_MAX_PARAMETER = 5000  # MLflow takes 6,000 characters


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """What to compare, with which resources. Nothing has been created."""

    config: CompareConfig
    training: TrainingSettings
    configurations: Configurations
    workers: Sequence[Resources]

    @property
    def output(self) -> Path:
        """Folder of the run folders."""
        return Path(self.config.output)

    @property
    def series(self) -> str:
        """Metric on dev that ranks the configurations."""
        return artifacts.metric("dev", self.config.metric)

    @property
    def about(self) -> dict[str, Any]:
        """The values that make two commands the same comparison; the plan has its own rules."""
        training = {name: value for name, value in self.training.values.items() if name not in RUNTIME_AND_DATASET}
        return {
            "command": "compare",
            "settings": training,
            "data": dict(self.training.data["digests"]),
            "label_names": self.training.data["label_names"],
        }

    @property
    def shared_digests(self) -> Mapping[str, str] | None:
        """The digests of the splits; None where each seed or fold draws its own examples."""
        values = self.training.values
        return None if values["max_train_rows"] or values["folds"] else self.training.data["digests"]

    def keys(self, plan: ComparisonPlan) -> list[Key]:
        """Return all trainings of a plan."""
        return keys_of(plan, self.training.values["folds"])

    def resolve(self, plan: ComparisonPlan, key: Key) -> TrainConfig:
        """Return the settings of a training."""
        own = {**plan.configurations[key.configuration], "seed": key.seed, "fold": key.fold}
        return from_flat(TrainConfig, {**self.training.values, **own})

    def digests(self, config: TrainConfig) -> Mapping[str, str]:
        """Return the digests of the splits that a training reads."""
        return self.shared_digests or sources.load(config.data, seed=config.run.seed).digests


@dataclass(frozen=True, kw_only=True)
class OpenComparison(OpenStudy):
    """The study of a comparison with its plan and run, ready for trainings."""

    request: CompareRequest
    plan: ComparisonPlan
    store: MlflowBackend


@contextmanager
def open_comparison(
    config: CompareConfig,
    configurations: Configurations,
    given: Mapping[str, Any],
    executor: Executor,
    screen: console.Console,
) -> Iterator[OpenComparison]:
    """Open the comparison of these configurations; all checks run before anything is created.

    given: settings of `train` that all trainings share.
    Raises SettingsError and DataError for what is wrong, TuningError for the plan and the study, TrackingError for the
    server.
    """
    store = connect()
    request = read_request(config, configurations, given)
    with (
        reach_storage(request.output) as storage,
        open_study(storage, _study_request(request, store, screen), store, executor, screen) as opened,
    ):
        plan = read_plan(opened.study)
        if plan is None:
            raise TypeError("a study with a run has a plan")
        yield OpenComparison(request=request, plan=plan, store=store, **vars(opened))


def read_request(config: CompareConfig, configurations: Configurations, given: Mapping[str, Any]) -> CompareRequest:
    """Return the checked request of these settings. Raises SettingsError and DataError for what is wrong with them."""
    own = {"seed": config.seed, "output": config.output}
    training = read_training_settings({**configurations.shared, **given}, own, _REFUSED)
    check_configurations(configurations, training)
    return CompareRequest(
        config=config,
        training=training,
        configurations=configurations,
        workers=assign_machine(config.workers, training.values["processes"], gpu_names()),
    )


def log_plan(tracker: Tracker, plan: ComparisonPlan) -> None:
    """Write the plan to the run of the comparison: as a file and as parameters."""
    write_json(tracker.folder / PLAN_FILE, asdict(plan))
    tracker.store_artifact(PLAN_FILE)  # now: a plan that is uploaded after the first training proves nothing
    tracker.log_artifact(PLAN_FILE)  # `sync` can make the run again
    configurations = [f"{name}: {describe_changes(changes)}" for name, changes in plan.configurations.items()]
    tracker.log_params(
        {
            "configurations": "; ".join(configurations)[:_MAX_PARAMETER],
            "planned": "; ".join(map(describe_pair, plan.planned))[:_MAX_PARAMETER],
            "written": plan.written,
        }
    )


def _study_request(request: CompareRequest, store: MlflowBackend, screen: console.Console) -> StudyRequest:
    config = request.config

    def plan_of(study: optuna.Study) -> ComparisonPlan:
        return continued(read_plan(study), make_plan(study.study_name, config, request.configurations))

    def configure(study: optuna.Study) -> None:
        plan_of(study)  # before its run is opened: a refused plan must not make it FAILED
        study.sampler = optuna.samplers.RandomSampler()  # every trial has its settings
        study.pruner = optuna.pruners.NopPruner()
        name_objectives(study, [request.series])

    def prepare(study: optuna.Study, tracker: Tracker) -> None:
        plan = plan_of(study)
        store_plan(study, plan)
        log_plan(tracker, plan)
        trials.retry_orphans(study)  # first: `enqueue` would add an interrupted training a second time
        keys = missing(study, request.keys(plan))
        wanted = {key: request.resolve(plan, key) for key in keys}
        enqueue(study, plan, keys, request.series, _finished(request, wanted, tracker, store, screen))

    varied = {name for changes in request.configurations.changes.values() for name in changes}
    shared = {name: value for name, value in request.training.values.items() if name not in varied}
    own = {name: value for name, value in flatten(config).items() if name not in ("seed", "output", "worker")}
    return StudyRequest(
        command="compare",
        setting="comparison",
        name=config.comparison,
        prefix=f"{Path(request.training.values['preset']).stem}-comparison",
        is_worker=config.worker,
        output=request.output,
        about=request.about,
        directions=["maximize"],
        parameters=what_is_trained({**shared, **own}),
        configure=configure,
        prepare=prepare,
    )


def _finished(
    request: CompareRequest,
    wanted: Mapping[Key, TrainConfig],
    tracker: Tracker,
    store: MlflowBackend,
    screen: console.Console,
) -> dict[Key, FinishedRun]:
    """Return the finished runs that take the place of trainings."""
    if not request.config.reuse or not wanted:
        return {}
    with readable_errors(store):
        experiment = store.run(tracker.run_id).info.experiment_id
    found: dict[Key, FinishedRun] = find_finished(request.output, store, experiment, wanted, request.digests)
    for key, run in found.items():
        screen.show_note(f"{key}: taken from finished run {run.run_id}")
    return found
