"""The trainings of a comparison: trials of its study that wait, one for each configuration, seed and fold."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from trainer.core import artifacts
from trainer.core.errors import EmotionsError
from trainer.core.run_folder import changed_splits
from trainer.core.settings import flatten
from trainer.tracking.backend import MlflowBackend
from tuning.comparison.finished_runs import FinishedRun, load_run
from tuning.comparison.results import ComparedRun, ComparisonPlan
from tuning.study import trials
from tuning.study.trials import Attribute

__all__ = ["Key", "collect", "compared_run", "enqueue", "key_of", "keys_of", "missing"]


class Key(NamedTuple):
    """What a training trains."""

    configuration: str
    seed: int
    fold: int = 0
    """The fold that is held out, from 1; 0 without folds."""

    def __str__(self) -> str:
        """Return the key in words."""
        return f"{self.configuration} seed {self.seed}" + (f" fold {self.fold}" if self.fold else "")


def key_of(trial: optuna.Trial | FrozenTrial) -> Key:
    """Return what a trial trains."""
    kept = trial.user_attrs
    return Key(str(kept[Attribute.CONFIGURATION]), int(kept[Attribute.SEED]), int(kept.get(Attribute.FOLD, 0)))


def keys_of(plan: ComparisonPlan, folds: int) -> list[Key]:
    """Return all trainings of a plan in order: all configurations with one seed first.

    A comparison that is stopped has then compared something.
    """
    held_out = range(1, folds + 1) if folds else (0,)
    return [Key(name, seed, fold) for seed in plan.seeds for fold in held_out for name in plan.configurations]


def missing(study: optuna.Study, keys: Sequence[Key]) -> list[Key]:
    """Return the trainings that no trial trains. Failed trainings are missing again."""
    existing = {key_of(trial) for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.FAIL}
    return [key for key in keys if key not in existing]


def enqueue(
    study: optuna.Study, plan: ComparisonPlan, keys: Sequence[Key], series: str, finished: Mapping[Key, FinishedRun]
) -> None:
    """Queue these trainings; those that are finished become complete trials. series: the metric of the objective."""
    scores = {key: artifacts.final_score(run.scores, series) for key, run in finished.items()}
    study.add_trials([_trial(plan, key, finished.get(key), scores.get(key)) for key in keys])


def collect(
    study: optuna.Study, keys: Sequence[Key], digests: Mapping[str, str] | None, output: Path, store: MlflowBackend
) -> list[ComparedRun]:
    """Return a record of each of these trainings.

    digests: of the splits; None where each seed or fold draws its own, which all configurations must have alike.
    """
    last = {key_of(trial): trial for trial in trials.counted(study)}  # of two, the second repeats a failed one
    drawn: dict[tuple[int, int], Mapping[str, str]] = {}
    records = []
    for key in keys:
        record, found = _record(key, last.get(key), output, store)
        expected = drawn.setdefault((key.seed, key.fold), found) if digests is None and found else digests
        if found and expected and (changed := changed_splits(found, expected)):
            cause = f"its examples of {', '.join(changed)} are others"
            record = _without_result(key, record.run_id, "missing", cause)
        records.append(record)
    return records


def compared_run(key: Key, run: FinishedRun, *, reused: bool, seconds: float | None = None) -> ComparedRun:
    """Return the record of a finished run."""
    found = run.scores.get(artifacts.TRAIN_SECONDS)
    return ComparedRun(
        configuration=key.configuration,
        seed=key.seed,
        run_id=run.run_id,
        folder=run.folder,
        state="finished",
        cause="",
        reused=reused,
        settings=flatten(run.config),
        scores=run.scores,
        seconds=seconds if found is None else found,
    )


def _record(
    key: Key, trial: FrozenTrial | None, output: Path, store: MlflowBackend
) -> tuple[ComparedRun, Mapping[str, str]]:
    """Return the record of a training, and the digests of its splits where it is finished."""
    run_id = (trials.run_id(trial) if trial else None) or ""
    if trial is None or trial.state != TrialState.COMPLETE:
        has_failed = trial is not None and trial.state == TrialState.FAIL
        cause = (trials.cause(trial) if trial else None) or "it has not ended"
        return _without_result(key, run_id, "failed" if has_failed else "missing", cause), {}
    try:
        run = load_run(run_id, output, store)
    except EmotionsError as error:
        return _without_result(key, run_id, "missing", str(error)), {}
    is_reused = Attribute.REUSED in trial.user_attrs
    return compared_run(key, run, reused=is_reused, seconds=trials.seconds(trial)), run.digests


def _without_result(key: Key, run_id: str, state: Literal["failed", "missing"], cause: str) -> ComparedRun:
    return ComparedRun(
        configuration=key.configuration,
        seed=key.seed,
        run_id=run_id,
        folder=None,
        state=state,
        cause=cause,
        reused=False,
        settings={"seed": key.seed, **({"fold": key.fold} if key.fold else {})},
        scores={},
        seconds=None,
    )


def _trial(plan: ComparisonPlan, key: Key, run: FinishedRun | None, score: float | None) -> FrozenTrial:
    """Return a waiting trial, or the complete one of a finished run."""
    attributes = {
        Attribute.CONFIGURATION: key.configuration,
        Attribute.SEED: key.seed,
        Attribute.FOLD: key.fold,
        Attribute.SETTINGS: {**plan.configurations[key.configuration], **({"fold": key.fold} if key.fold else {})},
    }
    if run is None or score is None:
        return optuna.trial.create_trial(state=TrialState.WAITING, user_attrs=attributes)
    taken = {Attribute.REUSED: True, Attribute.RUNS: {str(key.seed): run.run_id}}
    return optuna.trial.create_trial(state=TrialState.COMPLETE, value=score, user_attrs=attributes | taken)
