"""The trials of a study: what is kept with each of them, which count, what they scored and what they took."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

__all__ = [
    "LOSS",
    "REQUEUED",
    "Attribute",
    "begun",
    "copy_study",
    "counted",
    "is_counted",
    "is_cut_off",
    "left_over",
    "losses",
    "run_id",
    "score",
    "scored",
    "seconds",
    "settings",
    "state",
]

LOSS = "loss"
"""The parameter that decides which others a trial has."""

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

    DRIVER = "driver"
    """Who runs it; see `tuning.drivers`."""
    BEAT = "beat"
    RUNS = "runs"
    """Seed, as text, to MLflow run id, in the order of the seeds."""
    SETTINGS = "settings"
    """All settings that differ from those of the study."""
    SECONDS = "seconds"
    """Of training, those before an interruption included."""
    CAUSE = "cause"
    """Why it failed. Every trial that has failed has one: a failed one without was cut off."""
    WARM_START = "warm_start"
    """Where its settings come from, when they were not sampled."""
    SURPLUS = "surplus"
    """True for one too many: two drivers had taken the last one at the same moment."""
    RETRY_OF = "retry_of"
    """Number of the trial that was cut off and that this one continues."""
    KILLS = "kills"
    """How often its training was ended from outside, and not by the search."""


def state(trial: FrozenTrial) -> str:
    """Return `complete`, `pruned`, `failed`, `running`, `waiting`, or `requeued` for a trial that does not count."""
    return _STATES[trial.state] if is_counted(trial) else REQUEUED


def is_cut_off(trial: FrozenTrial) -> bool:
    """Whether the trial was ended from outside; another one continues it."""
    return trial.state == TrialState.FAIL and not {Attribute.CAUSE, Attribute.SURPLUS} & set(trial.user_attrs)


def is_counted(trial: FrozenTrial) -> bool:
    """Whether the trial belongs into counts: another one does not continue it, and it was not one too many."""
    return not is_cut_off(trial) and Attribute.SURPLUS not in trial.user_attrs


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count, by number. They are the study's own: not to be changed."""
    trials = study.get_trials(deepcopy=False)
    return sorted((trial for trial in trials if is_counted(trial)), key=lambda trial: trial.number)


def begun(study: optuna.Study) -> list[FrozenTrial]:
    """Return those that count and wait no longer: they make up the number of trials that was asked for."""
    return [trial for trial in counted(study) if trial.state != TrialState.WAITING]


def left_over(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that were cut off and that no other one continues yet."""
    trials = study.get_trials(deepcopy=False)
    continued = {trial.user_attrs.get(Attribute.RETRY_OF) for trial in trials}
    return [trial for trial in trials if is_cut_off(trial) and trial.number not in continued]


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
    """Return the run of its first training, None before that was made."""
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

    Optuna's figures and importances then need no `target`, which would turn colours and directions around. The place
    of every other trial is held by one that waits, so that the numbers stay.
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
    """Leave out that a study was made: this one is nobody's."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
