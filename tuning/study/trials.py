"""The trials of a study: what is kept with each of them, which count, what they scored and what they took."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

__all__ = [
    "GRACE_SECONDS",
    "LOSS",
    "REQUEUED",
    "Attribute",
    "cause",
    "common_cause",
    "copy_study",
    "counted",
    "is_counted",
    "is_duplicate",
    "is_interrupted",
    "losses",
    "make_retry_callback",
    "retry",
    "retry_orphans",
    "run_id",
    "score",
    "scored",
    "seconds",
    "settings",
    "started",
    "state",
]

LOSS = "loss"
"""The parameter that decides which others a trial has."""

GRACE_SECONDS = 60
"""Age of a heartbeat after which the worker of a trial is dead. Longer than a training takes to stop."""
MAX_RETRIES = 20
"""Interruptions after which a trial has failed."""
REQUEUED = "requeued"
_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


class Attribute:
    """Names of the user attributes of a trial."""

    RUNS = "runs"
    """Seed, as text, to MLflow run id, in the order of the seeds."""
    SETTINGS = "settings"
    """All settings that differ from those of the study."""
    SECONDS = "seconds"
    """Of training, those before an interruption included."""
    CAUSE = "cause"
    """Why it failed. A trial that failed without a cause was interrupted."""
    WARM_START = "warm_start"
    """Where its settings come from, when they were not sampled."""
    DUPLICATE = "surplus"
    """True for one too many: two workers began the last trial, or a retry, at the same moment."""
    SEED = "seed"
    """Seed of a trial of the finals or of a comparison."""
    CONFIGURATION = "configuration"
    """Name of the configuration that a trial of a comparison trains."""
    FOLD = "fold"
    """Fold that a trial of a comparison holds out; 0 without folds."""
    REUSED = "reused"
    """True for a trial of a comparison whose run was finished before."""
    SOURCE = "trial"
    """Number of the search's trial whose settings a trial of the finals has."""
    RETRY_OF = "retry_of"
    """Number of the trial that this one continues, in studies of version 1."""
    KILLS = "kills"
    """How often its training was ended from outside, and not by the search."""


def state(trial: FrozenTrial) -> str:
    """Return `complete`, `pruned`, `failed`, `running`, `waiting`, or `requeued` for a trial that is not counted."""
    return _STATES[trial.state] if is_counted(trial) else REQUEUED


def is_interrupted(trial: FrozenTrial) -> bool:
    """Return True for a trial that stopped before its end and is retried: it failed without a cause."""
    # A worker that is killed cannot write one.
    has_reason = {Attribute.CAUSE, Attribute.DUPLICATE} & set(trial.user_attrs)
    return trial.state == TrialState.FAIL and not has_reason and len(_retry_history(trial)) < MAX_RETRIES


def is_counted(trial: FrozenTrial) -> bool:
    """Return True unless the trial is retried or a duplicate."""
    return not is_interrupted(trial) and Attribute.DUPLICATE not in trial.user_attrs


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count, by number. They belong to the study: do not change them."""
    trials = study.get_trials(deepcopy=False)
    return sorted((trial for trial in trials if is_counted(trial)), key=lambda trial: trial.number)


def started(study: optuna.Study) -> list[FrozenTrial]:
    """Return the counted trials that do not wait: the setting `trials` limits their number."""
    return [trial for trial in counted(study) if trial.state != TrialState.WAITING]


def cause(trial: FrozenTrial) -> str | None:
    """Return why a counted trial failed; None for any other trial."""
    if trial.state != TrialState.FAIL or not is_counted(trial):
        return None
    return str(trial.user_attrs.get(Attribute.CAUSE, f"it was interrupted {MAX_RETRIES + 1} times"))


def common_cause(causes: Mapping[str, int]) -> str:
    """Return a sentence with the most frequent cause of failed trials; empty for none. causes: cause to number."""
    if not causes:
        return ""
    cause, number = max(causes.items(), key=lambda item: item[1])
    return f"{number} of {sum(causes.values())} failed with: {cause.rstrip('.')}. "


def is_duplicate(trial: optuna.Trial, total: int) -> bool:
    """Return True for a started trial beyond `total`, or when an earlier trial retries the same one."""
    trials = trial.study.get_trials(deepcopy=False)
    # By number: of two, each worker finds the same one too many.
    place = sum(one.number < trial.number for one in started(trial.study))
    own = _retried_number(trials[trial.number])
    return place >= total or (own is not None and any(_retried_number(one) == own for one in trials[: trial.number]))


def retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue an interrupted trial again, with its parameters and its runs."""
    make_retry_callback()(study, trial)


def retry_orphans(study: optuna.Study) -> list[int]:
    """Retry the trials of workers that died: those without a heartbeat, and those that nothing retries yet.

    Returns their numbers.
    """
    with _without_warnings():
        optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _died_before_its_heartbeat(trial):
            with suppress(UpdateFinishedTrialError):  # another worker was faster
                study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    trials = study.get_trials()  # copies: Optuna's callback changes the retry history in place
    retried = {_retried_number(trial) for trial in trials}
    # A worker may die after it ended a trial and before it queued the retry.
    orphans = [trial for trial in trials if is_interrupted(trial) and trial.number not in retried]
    for trial in orphans:
        retry(study, trial)
    return [trial.number for trial in orphans]


def make_retry_callback() -> optuna.storages.RetryHeartbeatStaleTrialCallback:
    """Return Optuna's callback that queues a trial again."""
    with _without_warnings():
        # Reports are not inherited: they are read again from the event log of the run.
        return optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)


def _retry_history(trial: FrozenTrial) -> list[int]:
    history: list[int] = trial.system_attrs.get("retry_history", [])
    return history


def _retried_number(trial: FrozenTrial) -> int | None:
    """Return the number of the trial that this one continues."""
    history = _retry_history(trial)
    number: int | None = history[-1] if history else trial.user_attrs.get(Attribute.RETRY_OF)
    return number


def _died_before_its_heartbeat(trial: FrozenTrial) -> bool:
    """Return True for a trial whose worker died before its first heartbeat, which Optuna never finds stale."""
    age = datetime.now() - (trial.datetime_start or datetime.now())  # Optuna's are naive too
    # A trial stores its settings within moments of its start.
    return Attribute.SETTINGS not in trial.user_attrs and age > timedelta(seconds=GRACE_SECONDS)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Leave out Optuna's note that heartbeats are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def scored(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete trials that count and whose objectives are all finite, the best first, ties by number."""
    found = [trial for trial in counted(study) if _is_scored(trial)]
    return sorted(found, key=lambda trial: (-score(trial), trial.number))


def score(trial: FrozenTrial) -> float:
    """Return the first objective of a complete trial; higher is better."""
    return float(trial.values[0])


def seconds(trial: FrozenTrial) -> float | None:
    """Return the seconds its training took, None where they are not known."""
    value = trial.user_attrs.get(Attribute.SECONDS)
    return None if value is None else float(value)


def run_id(trial: FrozenTrial) -> str | None:
    """Return the run of its first training, None before it is created."""
    runs: dict[str, str] = trial.user_attrs.get(Attribute.RUNS, {})
    return next(iter(runs.values()), None)


def settings(study: optuna.Study, number: int) -> dict[str, Any]:
    """Return all settings in which a trial that has begun differs from its study."""
    found: dict[str, Any] = study.get_trials(deepcopy=False)[number].user_attrs[Attribute.SETTINGS]
    return dict(found)


def losses(study: optuna.Study) -> list[str]:
    """Return the losses that the trials had, sorted; none where `loss` was not searched."""
    return sorted({str(trial.params[LOSS]) for trial in counted(study) if LOSS in trial.params})


def copy_study(
    study: optuna.Study, keep: Callable[[FrozenTrial], object] | None = None, objectives: int = 1
) -> optuna.Study:
    """Return the study in memory with its first `objectives` alone and only the trials to `keep`.

    keep: None for those that count, without scores that are not finite.

    Optuna's figures and importances then need no `target`, which would turn colours and directions around. A waiting
    trial takes the place of every other one, so that the numbers stay.
    """
    with _quiet():
        made = optuna.create_study(study_name=study.study_name, directions=study.directions[:objectives])
        made.add_trials(_copies(study.get_trials(), keep or _is_shown, objectives))
    return made


def _copies(
    trials: Sequence[FrozenTrial], keep: Callable[[FrozenTrial], object], objectives: int
) -> Iterator[FrozenTrial]:
    for trial in trials:
        if keep(trial):
            trial.values = trial.values[:objectives] if trial.values else None
            trial.user_attrs = {}  # Optuna prints them where the mouse points: too long there
            yield trial
        else:
            yield optuna.trial.create_trial(state=TrialState.WAITING)


def _is_shown(trial: FrozenTrial) -> bool:
    return is_counted(trial) and (trial.state != TrialState.COMPLETE or _is_scored(trial))


def _is_scored(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE and all(math.isfinite(value) for value in trial.values)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's message about a new study: this one exists in memory alone."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
