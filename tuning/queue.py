"""The trials of a study: which come next, and which were left behind and come again."""

from collections.abc import Collection
from contextlib import suppress

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuning.drivers import Watch, identity
from tuning.study.trials import Attribute, begun, is_cut_off, left_over

__all__ = ["FIXED", "Queue"]

_CARRIED = (Attribute.RUNS, Attribute.SETTINGS, Attribute.KILLS, Attribute.WARM_START, Attribute.SECONDS)
FIXED = "fixed_params"
"""System attribute where Optuna keeps the values that a queued trial is to have."""


class Queue:
    """The trials of a study, up to a total, shared with other drivers."""

    def __init__(self, study: optuna.Study, total: int) -> None:
        self.study = study
        self.total = total
        self._watch = Watch()

    def trials(self) -> list[FrozenTrial]:
        """All trials as the storage has them now, by number."""
        return sorted(self.study.get_trials(deepcopy=False), key=lambda trial: trial.number)

    def is_finished(self) -> bool:
        """Whether as many trials as asked for have ended."""
        return sum(trial.state.is_finished() for trial in begun(self.study)) >= self.total

    def next(self) -> optuna.Trial | None:
        """A trial to run, first of those that wait; None while all are given out."""
        # One that was cut off and is not queued again yet still has its place.
        if len(begun(self.study)) + len(left_over(self.study)) >= self.total:
            return None
        trial = self.study.ask()
        trial.set_user_attr(Attribute.DRIVER, identity())
        if self._is_surplus(trial.number):
            trial.set_user_attr(Attribute.SURPLUS, value=True)
            self.study.tell(trial, state=TrialState.FAIL)
            return None
        return trial

    def requeue(self, number: int) -> None:
        """Queue a trial that was cut off again, to be continued where it stood."""
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        known = self.trials()[number]
        if not is_cut_off(known):  # its driver was there after all, and has ended it
            return
        attributes = {name: known.user_attrs[name] for name in _CARRIED if name in known.user_attrs}
        # One that was cut off at once has no values yet, only those it was to have.
        params = {**known.system_attrs.get(FIXED, {}), **known.params}
        self.study.enqueue_trial(params, user_attrs=attributes | {Attribute.RETRY_OF: number})

    def requeue_left(self, running: Collection[int] = ()) -> list[int]:
        """Queue the trials again that were left behind; returns their numbers. running: those that this driver has."""
        left = [*left_over(self.study), *filter(self._is_left, self.trials())]
        found = sorted({trial.number for trial in left} - set(running))
        for number in found:
            self.requeue(number)
        return found

    def _is_left(self, trial: FrozenTrial) -> bool:
        driver, beat = trial.user_attrs.get(Attribute.DRIVER), trial.user_attrs.get(Attribute.BEAT)
        # Its own that it does not run: the storage went away while the trial was taken or ended.
        return trial.state == TrialState.RUNNING and (
            driver == identity() or self._watch.is_gone(str(trial.number), driver, beat)
        )

    def _is_surplus(self, number: int) -> bool:
        """Whether another driver took the last one at the same moment, or repeats the same trial."""
        trials = self.trials()
        before = [trial for trial in begun(self.study) if trial.number < number]
        retry_of = trials[number].user_attrs.get(Attribute.RETRY_OF)
        twins = [trial for trial in trials[:number] if trial.user_attrs.get(Attribute.RETRY_OF) == retry_of]
        return len(before) >= self.total or (retry_of is not None and len(twins) > 0)
