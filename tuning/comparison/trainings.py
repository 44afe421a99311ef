"""The trainings of a comparison: trials of its study that wait, one for each configuration and seed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from trainer.core import artifacts
from trainer.core.errors import DataError, EmotionsError
from trainer.core.run_folder import changed_splits
from trainer.core.settings import flatten
from trainer.tracking.backend import MlflowBackend
from tuning.comparison.finished_runs import FinishedRun, load_run
from tuning.comparison.results import ComparedRun, ComparisonPlan
from tuning.study import trials
from tuning.study.trials import Attribute

__all__ = ["Key", "collect", "compared_run", "enqueue", "key_of", "missing"]

Key = tuple[str, int]
"""Configuration and seed."""


def key_of(trial: optuna.Trial | FrozenTrial) -> Key:
    """Return the configuration and the seed of a trial."""
    return str(trial.user_attrs[Attribute.CONFIGURATION]), int(trial.user_attrs[Attribute.SEED])


def missing(study: optuna.Study, plan: ComparisonPlan) -> list[Key]:
    """Return what the plan asks for and no trial trains, in order: all configurations with one seed first.

    A comparison that is stopped has then compared something. Failed trainings are missing again.
    """
    existing = {key_of(trial) for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.FAIL}
    return [(name, seed) for seed in plan.seeds for name in plan.configurations if (name, seed) not in existing]


def enqueue(study: optuna.Study, plan: ComparisonPlan, series: str, finished: Mapping[Key, FinishedRun]) -> None:
    """Queue the missing trainings; those that are finished become complete trials.

    series: the metric of the objective.
    """
    scores = {key: artifacts.final_score(run.scores, series) for key, run in finished.items()}
    study.add_trials([_trial(plan, key, finished.get(key), scores.get(key)) for key in missing(study, plan)])


def collect(
    study: optuna.Study,
    plan: ComparisonPlan,
    digests: Mapping[int, Mapping[str, str]],
    output: Path,
    store: MlflowBackend,
) -> list[ComparedRun]:
    """Return a record of each training of the plan, by configuration and seed.

    digests: seed to the digests of its splits.
    """
    last = {key_of(trial): trial for trial in trials.counted(study)}  # of two, the second repeats a failed one
    return [
        _record(key, last.get(key), digests[key[1]], output, store)
        for key in ((name, seed) for name in plan.configurations for seed in plan.seeds)
    ]


def compared_run(key: Key, run: FinishedRun, *, reused: bool, seconds: float | None = None) -> ComparedRun:
    """Return the record of a finished run."""
    found = run.scores.get(artifacts.TRAIN_SECONDS)
    samples, steps = (run.scores.get(name) for name in (artifacts.TRAIN_SAMPLES, artifacts.TRAIN_STEPS))
    return ComparedRun(
        configuration=key[0],
        seed=key[1],
        run_id=run.run_id,
        folder=run.folder,
        state="finished",
        cause="",
        reused=reused,
        settings=flatten(run.config),
        scores=run.scores,
        seconds=seconds if found is None else found,
        samples=None if samples is None else int(samples),
        steps=None if steps is None else int(steps),
    )


def _record(
    key: Key, trial: FrozenTrial | None, digests: Mapping[str, str], output: Path, store: MlflowBackend
) -> ComparedRun:
    run_id = (trials.run_id(trial) if trial else None) or ""
    if trial is None or trial.state != TrialState.COMPLETE:
        has_failed = trial is not None and trial.state == TrialState.FAIL
        cause = (trials.cause(trial) if trial else None) or "it has not ended"
        return _without_result(key, run_id, "failed" if has_failed else "missing", cause)
    try:
        run = load_run(run_id, output, store)
        if changed := changed_splits(run.data["digests"], digests):
            raise DataError(f"its examples of {', '.join(changed)} are others")
    except EmotionsError as error:
        return _without_result(key, run_id, "missing", str(error))
    return compared_run(key, run, reused=Attribute.REUSED in trial.user_attrs, seconds=trials.seconds(trial))


def _without_result(key: Key, run_id: str, state: Literal["failed", "missing"], cause: str) -> ComparedRun:
    return ComparedRun(
        configuration=key[0],
        seed=key[1],
        run_id=run_id,
        folder=None,
        state=state,
        cause=cause,
        reused=False,
        settings={},
        scores={},
        seconds=None,
        samples=None,
        steps=None,
    )


def _trial(plan: ComparisonPlan, key: Key, run: FinishedRun | None, score: float | None) -> FrozenTrial:
    """Return a waiting trial, or the complete one of a finished run."""
    attributes = {
        Attribute.CONFIGURATION: key[0],
        Attribute.SEED: key[1],
        Attribute.SETTINGS: dict(plan.configurations[key[0]]),
    }
    if run is None or score is None:
        return optuna.trial.create_trial(state=TrialState.WAITING, user_attrs=attributes)
    taken = {Attribute.REUSED: True, Attribute.RUNS: {str(key[1]): run.run_id}}
    return optuna.trial.create_trial(state=TrialState.COMPLETE, value=score, user_attrs=attributes | taken)
