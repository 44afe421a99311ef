"""Follows the training of a trial: reports its scores to Optuna, and stops it when it has to end early."""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import optuna

from trainer.core import artifacts
from tuning.execution.executor import TrainingFailedError
from tuning.study.trials import Attribute

__all__ = ["TrialInterruptedError", "TrialMonitor"]

_SAVE_SECONDS = 15.0  # also how soon it notices that another worker has the trial
_SECONDS_PER_MINUTE = 60


class TrialInterruptedError(Exception):
    """A trial stopped before its end and is retried from its checkpoint."""


class TrialMonitor:
    """A `Monitor` of one training of a trial."""

    def __init__(  # noqa: PLR0913  # a training and all that can end it
        self,
        trial: optuna.Trial,
        *,
        metric: str,
        epochs: float,
        reports: int,
        max_seconds: float,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """metric: the score to report. reports: steps into which the training is divided; 0 reports nothing."""
        self._trial, self._metric, self._epochs, self._reports = trial, metric, epochs, reports
        self._max_seconds, self._stop, self._clock = max_seconds, stop, clock
        self._start = self._saved = clock()
        self._seconds_before = float(trial.user_attrs.get(Attribute.SECONDS, 0.0))
        self._epoch = 0.0
        self._steps: set[int] = set()
        self._judged = 0

    def report(self, metrics: Sequence[Mapping[str, float]]) -> None:
        """Report each new score to Optuna, at the step of its epoch."""
        for group in metrics:
            self._epoch = group.get(artifacts.TRAIN_EPOCH, self._epoch)
            if self._reports and self._metric in group:
                self._report(group[self._metric])

    def check(self) -> None:
        """Raise TrialInterruptedError on a stop of the command, TrialPruned, or TrainingFailedError after too long."""
        if self._stop.is_set():
            raise TrialInterruptedError("the search was stopped")
        seconds = self._clock() - self._start
        if self._max_seconds and seconds > self._max_seconds:
            minutes = self._max_seconds / _SECONDS_PER_MINUTE
            raise TrainingFailedError(f"it took longer than trial_minutes={minutes:g}")
        if self._should_prune():
            raise optuna.TrialPruned
        if self._clock() - self._saved > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Store the seconds of training; raises UpdateFinishedTrialError when another worker has taken the trial."""
        self._saved = self._clock()
        self._trial.set_user_attr(Attribute.SECONDS, round(self._seconds_before + self._saved - self._start, 1))

    def _report(self, score: float) -> None:
        # `round` would take 0.5 to 0 and 1.5 to 2: one step is skipped, another has two scores.
        step = min(math.floor(self._epoch / self._epochs * self._reports + 0.5), self._reports)
        if step >= 1 and step not in self._steps:  # Optuna keeps the first report of a step and warns of others
            self._trial.report(score, step)
            self._steps.add(step)

    def _should_prune(self) -> bool:
        """Ask the pruner once for each report, the last one excepted: the training is over by then."""
        last = max(self._steps, default=0)
        if last in (self._judged, self._reports):
            return False
        self._judged = last
        return self._trial.should_prune()
