"""Runs the trials of a phase with `study.optimize`, until as many as requested have ended."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState

from trainer.core.errors import TuningError
from trainer.reporting import console
from tuning.execution.executor import TrainingFailedError
from tuning.execution.monitor import TrialInterruptedError
from tuning.execution.objective import Objective
from tuning.study import trials

__all__ = ["Optimizer"]

_WAIT_SECONDS = 1.0


@dataclass
class Optimizer:
    """Workers of this process for the trials of one phase."""

    study: optuna.Study
    objective: Objective
    workers: int
    max_failures: int
    screen: console.Console
    on_trial: Callable[[optuna.Study, FrozenTrial], None] | None = None
    """Called at the end of each trial."""
    keep_lead: Callable[[], None] = lambda: None
    """Called after each trial; raises TuningError when another command leads the study."""
    _causes: list[str] = field(default_factory=list)
    _progress: console.Progress = field(default_factory=console.Progress)

    def run(self) -> None:
        """Run trials until all have ended, those of other workers included.

        Raises TuningError after `max_failures` failures in a row. A stop interrupts the trials and queues them again.
        """
        total = self.objective.phase.total()
        with self.screen.progress(total, _ended(self.study), self.objective.phase.unit) as self._progress:
            while not self.objective.stop.is_set() and _ended(self.study) < self.objective.phase.total():
                for number in trials.retry_orphans(self.study):
                    self.screen.show_note(f"{self.objective.phase.unit} {number} was interrupted and is queued again")
                # In rounds: an interrupted trial counts in `n_trials`, and its retry is another one.
                self._run_trials(self.objective.phase.total() - len(trials.started(self.study)))
        self._raise_on_failures()

    def _run_trials(self, count: int) -> None:
        """Run this many trials, or wait a moment for those of other workers."""
        if count <= 0:
            self.objective.stop.wait(_WAIT_SECONDS)
            return
        try:
            self.study.optimize(
                self.objective,
                n_trials=count,
                n_jobs=min(self.workers, count),
                catch=(TrainingFailedError, TrialInterruptedError),  # these end the trial and not the search
                callbacks=[
                    *(self._retry_if_interrupted, self._show, *filter(None, [self.on_trial])),
                    *(self._stop_if_done, self._check_lead),
                ],
            )
        except ValueError:  # Optuna's answer to the end of a trial that another worker has taken over
            if not self.objective.lost:
                raise
            self.screen.show_note(f"another worker has taken over trial {self.objective.lost[-1]}")

    def _retry_if_interrupted(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if trials.is_interrupted(trial):
            trials.retry(study, trial)

    def _show(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._progress.update(_ended(study), self._numbers(study))
        name, seconds = self.objective.phase.name(trial), trials.seconds(trial) or 0.0
        state = trials.state(trial)
        if state == "failed":
            self.screen.show_warning(f"{name} failed: {trials.cause(trial)}")
        elif state == "complete":
            values = ", ".join(f"{value:.4g}" for value in trial.values)
            self.screen.show_note(f"{name}: {values} in {seconds:.0f} s")
        elif state == "pruned":
            self.screen.show_note(f"{name}: pruned after {seconds:.0f} s")
        else:
            self.screen.show_note(f"{name}: interrupted, queued again")

    def _numbers(self, study: optuna.Study) -> dict[str, float]:
        """Return the numbers that the progress bar shows after that of ended trials."""
        started, phase = trials.started(study), self.objective.phase
        states = Counter(map(trials.state, started))
        can_prune = phase.reports > 0 or phase.prunes_by_seed
        shown = ("running", "pruned", "failed") if can_prune else ("running", "failed")
        numbers: dict[str, float] = {name: states[name] for name in shown}
        best = [trial.values[0] for trial in started if trial.state == TrialState.COMPLETE]
        return numbers | ({"best": max(best)} if best else {})

    def _stop_if_done(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Stop after the last trial or too many failures; Optuna's MaxTrialsCallback counts a retried trial twice."""
        cause = trials.cause(trial)
        if cause is not None:
            self._causes.append(cause)
        elif trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            self._causes.clear()  # failures in a row suggest a common cause
        if len(self._causes) >= self.max_failures:
            self.objective.stop.set()
        if self.objective.stop.is_set() or len(trials.started(study)) >= self.objective.phase.total():
            study.stop()

    def _check_lead(self, _study: optuna.Study, _trial: FrozenTrial) -> None:
        try:
            self.keep_lead()
        except BaseException:
            self.objective.stop.set()  # interrupts the other trials, which the leading command continues
            raise

    def _raise_on_failures(self) -> None:
        if len(self._causes) >= self.max_failures:
            phase, cause = self.objective.phase, trials.common_cause(Counter(self._causes))
            raise TuningError(
                f"{len(self._causes)} {phase.unit}s failed in a row. {cause}Fix it and run the same command "
                f"again{phase.retry_advice}."
            )


def _ended(study: optuna.Study) -> int:
    return sum(trial.state.is_finished() for trial in trials.counted(study))
