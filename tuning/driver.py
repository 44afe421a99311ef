"""Runs the trials of a queue, some at a time, until as many as asked for have ended."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import optuna
from optuna.trial import TrialState

from trainer.core import signals
from trainer.core.errors import TrackingError, TuningError
from trainer.reporting import console
from tuning.analysis.narrative import common_cause
from tuning.drivers import BEAT_SECONDS
from tuning.execution.objective import Plan, RunningTrial
from tuning.execution.process import Share
from tuning.execution.runs import Runs
from tuning.queue import Queue
from tuning.study.trials import Attribute, begun, state

__all__ = ["Driver"]

_TICK_SECONDS = 0.3
_PATIENCE_SECONDS = 600.0
_SHOWN = ("running", "pruned", "failed")


@dataclass
class Driver:
    """Workers of this machine: one share of it each."""

    shares: Sequence[Share]
    runs: Runs
    screen: console.Console
    max_failures: int
    on_beat: Callable[[], None]
    _running: dict[int, RunningTrial] = field(default_factory=dict)
    _causes: list[str] = field(default_factory=list)
    _beats: int = 0
    _last_beat: float = float("-inf")
    _away_since: float | None = None

    def run(self, queue: Queue, plan: Plan) -> None:
        """Run trials until the queue is finished, those of other drivers included.

        When stopped, trainings are ended and queued again. Raises TuningError after `max_failures` failures in a row,
        and when the storage or the tracking server has been away for ten minutes.
        """
        with self.screen.progress(queue.total, _standing(queue)[0], plan.name) as progress:
            try:
                self.wait(lambda: self._turn(queue, plan, progress))
            except BaseException:
                self._stop(queue)
                raise

    def wait(self, is_done: Callable[[], bool]) -> None:
        """Ask until it is done. A server that is away for a while is waited for."""
        while True:
            try:
                done = is_done()
            except (optuna.exceptions.StorageInternalError, TrackingError) as error:
                self._wait_for_server(error)
                continue
            self._away_since = None
            if done:
                return
            time.sleep(_TICK_SECONDS)

    def _turn(self, queue: Queue, plan: Plan, progress: console.Progress) -> bool:
        """Do whatever is due; whether all is done."""
        self._beat(queue)
        self._start(queue, plan)
        away: TrackingError | None = None
        for place, running in list(self._running.items()):
            try:
                ended = running.poll()
            except TrackingError as error:  # the others go on meanwhile
                away = error
                continue
            if ended:
                self._tell(queue, running)
                del self._running[place]
                self._count_failure(running)
        progress.update(*_standing(queue))
        if away is not None:
            raise away
        return not self._running and queue.is_finished()

    def _beat(self, queue: Queue) -> None:
        if time.monotonic() - self._last_beat < BEAT_SECONDS:
            return
        self._beats, self._last_beat = self._beats + 1, time.monotonic()
        self.on_beat()
        for running in self._running.values():
            running.beat(self._beats)
        for number in queue.requeue_left({running.trial.number for running in self._running.values()}):
            self.screen.show_note(f"trial {number} was cut off: queued again")

    def _start(self, queue: Queue, plan: Plan) -> None:
        for place, share in enumerate(self.shares):
            if place in self._running:
                continue
            trial = queue.next()
            if trial is None:
                return
            self._running[place] = RunningTrial(plan, trial, share, self.runs)

    def _tell(self, queue: Queue, running: RunningTrial) -> None:
        trial, study = running.trial, queue.study
        try:
            trial.set_user_attr(Attribute.SECONDS, round(running.seconds, 1))
            if running.state == "failed":
                trial.set_user_attr(Attribute.CAUSE, running.cause)
                study.tell(trial, state=TrialState.FAIL)
            elif running.state == "interrupted":
                queue.requeue(trial.number)
            elif running.state == "pruned":
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, running.values)
        except optuna.exceptions.UpdateFinishedTrialError:
            self.screen.show_note(f"trial {trial.number} has been taken over by another driver")
            return
        self._show(running)

    def _count_failure(self, running: RunningTrial) -> None:
        if running.state in ("complete", "pruned"):
            self._causes.clear()
        if running.state != "failed":  # what was cut off comes again, and fails when that does not end
            return
        self._causes.append(running.cause)
        if len(self._causes) >= self.max_failures:
            raise TuningError(
                f"trials must not fail again and again, but got max_failures={self.max_failures} in a row. "
                f"{common_cause(Counter(self._causes))}Mend that, and give the same command again; what has failed "
                "counts as a trial, so raise trials where none is left."
            )

    def _show(self, running: RunningTrial) -> None:
        name = f"{running.plan.name} {running.trial.number}"
        if running.state == "complete":
            values = ", ".join(f"{value:.4g}" for value in running.values)
            self.screen.show_note(f"{name}: {values} in {running.seconds:.0f} s")
        elif running.state == "interrupted":
            self.screen.show_note(f"{name}: {running.cause}; queued again")
        elif running.state == "pruned":
            self.screen.show_note(f"{name}: pruned after {running.seconds:.0f} s")
        else:
            self.screen.show_warning(f"{name} failed: {running.cause}")

    def _wait_for_server(self, error: Exception) -> None:
        now, is_tracking = time.monotonic(), isinstance(error, TrackingError)
        name = "tracking server" if is_tracking else "storage of the study"
        said = f" ({error})" if is_tracking else ""  # an error of the storage may hold its password
        if self._away_since is None:
            self._away_since = now
            self.screen.show_warning(f"the {name} does not answer; trainings go on, and it is asked again{said}")
        if now - self._away_since > _PATIENCE_SECONDS:
            raise TuningError(
                f"{name} must answer, but got none for {now - self._away_since:.0f} seconds{said}. "
                "Start it, and give the same command again."
            ) from None
        time.sleep(_TICK_SECONDS * 10)

    def _stop(self, queue: Queue) -> None:
        """End what runs and queue it again. A second signal must not leave processes behind."""
        with signals.signal_handlers(signal.SIG_IGN, signal.SIGTERM, signal.SIGINT):
            left = list(self._running.values())
            for running in left:
                running.interrupt()
            while left := [running for running in left if not _has_ended(running)]:
                time.sleep(_TICK_SECONDS)
            for running in self._running.values():
                with suppress(optuna.exceptions.StorageInternalError):  # the next driver finds what was left
                    self._tell(queue, running)
            self._running.clear()


def _has_ended(running: RunningTrial) -> bool:
    with suppress(optuna.exceptions.StorageInternalError):  # what it was to be told, its runs and folders know too
        return running.poll()
    return False


def _standing(queue: Queue) -> tuple[int, dict[str, float]]:
    """Trials that have ended, and the numbers to show beside them."""
    known = begun(queue.study)
    states = Counter(map(state, known))
    numbers: dict[str, float] = {name: states[name] for name in _SHOWN}
    best = [trial.values[0] for trial in known if trial.state == TrialState.COMPLETE]
    return sum(trial.state.is_finished() for trial in known), numbers | ({"best": max(best)} if best else {})
