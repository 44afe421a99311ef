"""What is kept with each trial in the storage, and what that says of it."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

__all__ = ["Attribute", "counted", "is_cut_off"]


class Attribute:
    """Names of the user attributes of a trial."""

    DRIVER = "driver"
    """Who runs it; see `tuning.drivers`."""
    BEAT = "beat"
    RUNS = "runs"
    """Seed, as text, to MLflow run id."""
    RUN_ID = "run_id"
    """The run of the first seed."""
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
    RETRIES = "retries"


def is_cut_off(trial: FrozenTrial) -> bool:
    """Whether the trial was ended from outside; another one continues it."""
    return trial.state == TrialState.FAIL and not {Attribute.CAUSE, Attribute.SURPLUS} & set(trial.user_attrs)


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Trials that count towards the number asked for: those begun, without those cut off or one too many."""
    return [
        trial
        for trial in trials
        if trial.state != TrialState.WAITING and not is_cut_off(trial) and Attribute.SURPLUS not in trial.user_attrs
    ]
