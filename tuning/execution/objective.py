"""A trial while it runs: its trainings one after the other, what Optuna is told of them, and how it ends."""

import math
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import optuna

from trainer.core import artifacts
from tuning.execution.process import STOP_SECONDS, Share
from tuning.execution.runs import STATUS, Runs
from tuning.execution.training import Order, Training, Turn
from tuning.study.trials import Attribute

__all__ = ["COSTS", "Plan", "RunningTrial", "State"]

State = Literal["complete", "pruned", "failed", "interrupted"]
COSTS = {"latency": artifacts.MODEL_LATENCY_MS, "size": artifacts.MODEL_SIZE_MB}
"""Second goal → metric."""

_STOPPED_BY_TERM = 128 + signal.SIGTERM
_FORK_SERVER_GONE = 255
_RETRIES = 2
"""For one that is ended from outside; after that it has failed."""
_SECONDS_PER_MINUTE = 60


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all trials of a phase have in common."""

    words: tuple[str, ...]
    """Command line of `train` for what no trial changes."""
    output: Path
    """Folder of the run folders."""
    metrics: tuple[str, ...]
    """Names of the scores that are a trial's value or values."""
    reports: int
    """Parts of a training by which progress is told; 0 = none is told."""
    by_seed: bool
    """Whether the score of each seed is told, for pruning over seeds."""
    seconds: float
    """For which a training may go on; 0 = for ever."""
    epochs: float
    """Length of a training whose trial does not say."""
    name: str
    """Such as `trial` or `final`."""
    keeps_checkpoints: bool
    """Whether those of a complete training stay."""
    changes: Callable[[optuna.Trial], dict[str, Any]]
    """The settings of a trial that differ from `words`, the seed apart; the same when asked again."""
    seeds: Callable[[optuna.Trial], Sequence[int]]
    """What a trial trains with, one after the other."""


@dataclass
class RunningTrial:
    """A trial of a plan with its worker's share of the machine. Poll it until it has ended, then tell Optuna."""

    plan: Plan
    trial: optuna.Trial
    share: Share
    runs: Runs
    state: State | None = None
    """None while it runs."""
    cause: str = ""
    """Why it failed or was interrupted."""
    _changes: dict[str, Any] | None = None
    _values: list[tuple[float, ...]] = field(default_factory=list)
    _training: Training | None = None
    _seconds: float = 0.0
    _stopping: State | None = None
    _patience_ends: float = math.inf
    _turn: Turn | None = None
    """Of the training that comes next."""
    _made: dict[int, str] = field(default_factory=dict)
    """Seed to a run made for it here, known to the storage or not yet."""
    _told: set[int] = field(default_factory=set)
    _judged: int = 0

    @property
    def values(self) -> list[float]:
        """The trial's value or values, once it is complete: means over its seeds."""
        return [fmean(column) for column in zip(*self._values, strict=True)]

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before an interruption included."""
        return self._seconds + (self._training.seconds if self._training else 0.0)

    def poll(self) -> bool:
        """Do and note what is due; whether the trial has ended. May be called again after an error of the storage."""
        if self.state is None:
            try:
                self._advance()
            except optuna.exceptions.UpdateFinishedTrialError:
                self._lose()
        return self.state is not None

    def beat(self, number: int) -> None:
        """Say that its driver is still there. number: another one than the last time."""
        try:
            self.trial.set_user_attr(Attribute.BEAT, number)
        except optuna.exceptions.UpdateFinishedTrialError:
            self._lose()

    def interrupt(self) -> None:
        """Ask the training to end, to be continued by a later driver; poll until it has."""
        if self.state is None:
            self._stop("interrupted", "the search was stopped")

    def _lose(self) -> None:
        """End: this machine slept, or was cut off, for so long that another driver has taken the trial over."""
        self._stop("interrupted", "another driver has taken it over")

    def _advance(self) -> None:
        if self._changes is None:
            self._begin()
        if self._training is None:
            self._next()
        else:
            self._look(self._training)

    def _begin(self) -> None:
        changes = self.plan.changes(self.trial)
        # A training that is resumed keeps its settings, though another pruner would want other evaluations.
        changes = self.trial.user_attrs.get(Attribute.SETTINGS, changes)
        self.trial.set_user_attr(Attribute.SETTINGS, changes)
        self._seconds = float(self.trial.user_attrs.get(Attribute.SECONDS, 0.0))
        self._changes = changes

    def _look(self, training: Training) -> None:
        status = training.status  # before its progress: one that has ended by now is not pruned any more
        self._tell_progress(training)
        if status is not None:
            self._ended(training, status)
        elif self._should_be_pruned():
            self._stop("pruned", "")
        elif time.monotonic() > self._patience_ends:
            training.clean_up()
        elif self.plan.seconds and training.seconds > self.plan.seconds:
            minutes = self.plan.seconds / _SECONDS_PER_MINUTE
            self._stop("failed", f"it took longer than trial_minutes={minutes:g}")

    def _next(self) -> None:
        """Start the training of the next seed, or end when there is none; one that has its results is not repeated."""
        if not self._remaining:
            self._end("complete")
            return
        self._turn = self._turn or Turn(self._order(self._remaining[0]))
        order = self._turn.order
        if order.outcome is not None:
            self._turn = None
            self._take(order)
        elif self._turn.has_come:
            self._turn = None
            self._training = Training(order, self.share)

    @property
    def _remaining(self) -> Sequence[int]:
        """Seeds without a score."""
        return self.plan.seeds(self.trial)[len(self._values) :]

    def _order(self, seed: int) -> Order:
        """The training of a seed, in the run it has already or a new one."""
        runs: dict[str, str] = dict(self.trial.user_attrs.get(Attribute.RUNS, {}))
        known = runs.get(str(seed))
        if known is not None and not (self.plan.output / known).is_dir():  # on another machine: begin anew here
            self.runs.give_up(known)
            known = None
        if known is None:
            name = f"{self.plan.name} {self.trial.number}"
            many = len(self.plan.seeds(self.trial)) > 1
            tags = {artifacts.TAG_STUDY: self.trial.study.study_name, artifacts.TAG_TRIAL: self.trial.number}
            known = self._made.get(seed) or self.runs.create(f"{name} seed {seed}" if many else name, tags)
            self._made[seed] = known
            (self.plan.output / known).mkdir(parents=True, exist_ok=True)
            runs[str(seed)] = known
            self.trial.set_user_attr(Attribute.RUNS, runs)
        return Order(self.plan.words, {**(self._changes or {}), "seed": seed}, self.plan.output / known)

    def _tell_progress(self, training: Training) -> None:
        if not self.plan.reports or self._stopping:
            return
        epochs = float(training.order.changes.get("epochs", self.plan.epochs))
        for epoch, score in training.scores(self.plan.metrics[0]):
            step = min(math.floor(epoch / epochs * self.plan.reports + 0.5), self.plan.reports)
            if step < 1 or step in self._told:
                continue
            self.trial.report(score, step)
            self._told.add(step)

    def _should_be_pruned(self) -> bool:
        """Whether the pruner gives the trial up for what it was told last; asked once for each report."""
        if not self._told or self._judged == max(self._told) or max(self._told) == self.plan.reports:
            return False
        self._judged = max(self._told)
        return self.trial.should_prune()

    def _ended(self, training: Training, status: int) -> None:
        training.clean_up()
        if self._stopping and status != 0:
            self._close(training, self._stopping)
        elif status == 0:
            self._take(training.order)
        elif status < 0 or status in (_STOPPED_BY_TERM, _FORK_SERVER_GONE):
            self.cause = f"its process was ended from outside (status {status})"
            kills = self.trial.user_attrs.get(Attribute.KILLS, 0) + 1
            self.trial.set_user_attr(Attribute.KILLS, kills)
            self._close(training, "failed" if kills > _RETRIES else "interrupted")
        else:
            self.cause = training.cause()
            self._close(training, "failed")

    def _take(self, order: Order) -> None:
        """Take the scores of a training that has ended well."""
        found = order.outcome or {}
        values = tuple(found.get(name, math.nan) for name in self.plan.metrics)
        training, self._training = self._training, None
        self._seconds += training.seconds if training else 0.0
        missing = [name for name, value in zip(self.plan.metrics, values, strict=True) if not math.isfinite(value)]
        if misuse := order.misuse():  # a trial must be what it says
            self._fail(order, f"training must use what it is given, but got {misuse}")
        elif missing:
            self._fail(order, f"it has no number for {', '.join(missing)}")
        else:
            self._values.append(values)
            self._finish_run(order, "complete")
            self._go_on(values[0])

    def _fail(self, order: Order, cause: str) -> None:
        self.cause = cause
        self._finish_run(order, "failed")
        self._end("failed")

    def _go_on(self, score: float) -> None:
        """Judge the score of a seed. One that ended well although it was asked to stop leaves the others to be done."""
        if self._stopping == "interrupted" and self._remaining:
            self._end("interrupted")
            return
        self._stopping, self._patience_ends, self.cause = None, math.inf, ""
        if self.plan.by_seed:
            self.trial.report(score, len(self._values))
            if self._remaining and self.trial.should_prune():
                self._end("pruned")

    def _stop(self, state: State, cause: str) -> None:
        """Ask the training to end, so that its run is closed and its checkpoint whole; soon it is no longer asked."""
        if self._training is None:
            for run_id in self._made.values():  # that of a training that was about to start
                self.runs.give_up(run_id)
            self.cause = cause
            self._end(state)
        elif self._stopping is None:
            self._stopping, self.cause = state, cause
            self._patience_ends = time.monotonic() + STOP_SECONDS
            self._training.ask_to_stop()

    def _close(self, training: Training, state: State) -> None:
        self._training = None
        self._seconds += training.seconds
        self._finish_run(training.order, state)
        self._end(state)

    def _finish_run(self, order: Order, state: State) -> None:
        # A training that was asked to stop has called that an error.
        error = self.cause if state == "failed" else None
        tags = {artifacts.TAG_TRIAL_STATE: state, artifacts.TAG_ERROR: error}
        self.runs.close(order.folder, STATUS[state], tags)
        if state != "interrupted" and not (state == "complete" and self.plan.keeps_checkpoints):
            shutil.rmtree(order.folder / artifacts.CHECKPOINTS, ignore_errors=True)

    def _end(self, state: State) -> None:
        self.state = state
