"""The objective that `study.optimize` calls: trains one trial and returns its score."""

import math
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import tenacity
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial

from trainer.core import artifacts
from trainer.core.errors import TrackingError
from tuning.execution.executor import (
    Executor,
    TrainingFailedError,
    TrainingKilledError,
    TrainingRequest,
    TrainingServerError,
)
from tuning.execution.monitor import TrialInterruptedError, TrialMonitor
from tuning.execution.resources import ResourcePool, Resources
from tuning.execution.runs import Runs
from tuning.study.trials import Attribute, is_duplicate

__all__ = ["COSTS", "AnyTrial", "Objective", "Phase"]

AnyTrial = optuna.Trial | FrozenTrial
COSTS = {"latency": artifacts.MODEL_LATENCY_MS, "size": artifacts.MODEL_SIZE_MB}
"""Second objective to its metric."""
_SERVER_SECONDS, _RETRY_SECONDS = 600, 10
"""Time for a tracking server to come back, and between two attempts."""
_MAX_KILLS = 2
"""Retries after the training process was killed, for instance for want of memory."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What all trials of a search, of its finals, or of a comparison have in common."""

    study: str
    """Name of the study; with that of the trial it is the name of a run."""
    unit: str
    """Word for a trial: `trial`, `final` or `training`."""
    name: Callable[[AnyTrial], str]
    """Name of a trial."""
    tags: Callable[[optuna.Trial], Mapping[str, object]]
    """Tags of the runs of a trial."""
    settings: Mapping[str, Any]
    """Settings of training that no trial changes."""
    output: Path
    """Folder of the run folders."""
    metrics: tuple[str, ...]
    """The metric of each objective: the pruner reads its series, and the score of a trial is the final one."""
    reports: int
    """Steps into which a training is divided for the pruner; 0 reports nothing."""
    prunes_by_seed: bool
    """Whether the pruner judges a trial after each seed."""
    max_seconds: float
    """Time for one training; 0 is no limit."""
    epochs: float
    """Epochs of a trial that does not set them."""
    keeps_checkpoints: bool
    """Whether complete trainings keep their checkpoints."""
    suggest: Callable[[optuna.Trial], dict[str, Any]]
    """Settings of a new trial that it adds to `settings`, without the seed."""
    seeds: Callable[[optuna.Trial], Sequence[int]]
    """Seeds of the trainings of a trial."""
    total: Callable[[], int]
    """Trials of the study in all."""
    retry_advice: str
    """What to do after too many failures."""


@dataclass(frozen=True)
class Objective:
    """Trains the trials of a phase. Called from the threads of `study.optimize`."""

    phase: Phase
    executor: Executor
    runs: Runs
    pool: ResourcePool
    stop: threading.Event
    """Set to interrupt all trials."""
    lost: list[int] = field(default_factory=list)
    """Numbers of trials that another worker has taken over, as after this machine was suspended."""

    def __call__(self, trial: optuna.Trial) -> tuple[float, ...]:
        """Return the mean over seeds for each objective.

        Raises TrialPruned, TrialInterruptedError, and TrainingFailedError after storing its cause.
        """
        try:
            with self.pool.take() as resources:
                self._refuse_duplicate(trial)
                settings = self._settings(trial)
                scores: list[tuple[float, ...]] = []
                seeds = self.phase.seeds(trial)
                for seed in seeds:
                    request = self._request(trial, settings, seed)
                    with self._recorded(trial, request):
                        scores.append(self._train(trial, request, resources))
                    if self.phase.prunes_by_seed:
                        self._prune(trial, scores, is_last=len(scores) == len(seeds))
                return tuple(fmean(column) for column in zip(*scores, strict=True))
        except TrainingFailedError as error:
            trial.set_user_attr(Attribute.CAUSE, str(error))
            raise
        except UpdateFinishedTrialError:
            self.lost.append(trial.number)
            raise TrialInterruptedError("another worker has taken it over") from None
        except (optuna.TrialPruned, TrialInterruptedError):
            raise
        except BaseException:
            self.stop.set()  # the other trials are interrupted and retried by the next command
            raise

    def _refuse_duplicate(self, trial: optuna.Trial) -> None:
        if self.stop.is_set():
            raise TrialInterruptedError("the search was stopped")
        if is_duplicate(trial, self.phase.total()):
            trial.set_user_attr(Attribute.DUPLICATE, value=True)
            raise TrialInterruptedError("another worker began the last trial at the same moment")

    def _settings(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return the settings of a trial; a retried one keeps those that it began with."""
        suggested = self.phase.suggest(trial)
        settings: dict[str, Any] = trial.user_attrs.get(Attribute.SETTINGS, suggested)
        trial.set_user_attr(Attribute.SETTINGS, settings)
        return settings

    def _request(self, trial: optuna.Trial, settings: dict[str, Any], seed: int) -> TrainingRequest:
        """Return the training of a seed, in the run that it has, or in a new one where that is not on this machine."""
        run_ids: dict[str, str] = dict(trial.user_attrs.get(Attribute.RUNS, {}))
        run_id = run_ids.get(str(seed))
        if run_id is not None and not (self.phase.output / run_id).is_dir():
            self.runs.abandon(run_id)  # it began on another machine
            run_id = None
        if run_id is None:
            run_id = self._create_run(trial, seed)
            # A kill before this leaves a run of no trial, which `close_abandoned` ends.
            trial.set_user_attr(Attribute.RUNS, {**run_ids, str(seed): run_id})
        folder = self.phase.output / run_id
        folder.mkdir(parents=True, exist_ok=True)
        return TrainingRequest({**self.phase.settings, **settings, "seed": seed}, folder)

    def _create_run(self, trial: optuna.Trial, seed: int) -> str:
        several = len(self.phase.seeds(trial)) > 1
        study = self.phase.study
        # With spaces: the training would take `demo-trial-0` for a name that MLflow has generated.
        name = f"{study} {self.phase.name(trial)}" + (f" seed {seed}" if several else "")
        tags = {artifacts.TAG_STUDY: study, **self.phase.tags(trial)}
        return self._patient(TrackingError)(self.runs.create, name, tags)

    def _patient(self, error: type[Exception]) -> tenacity.Retrying:
        """Return attempts at a call that raises this error while the tracking server is away."""
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(error),  # the server restarts, for instance
            stop=tenacity.stop_any(tenacity.stop_after_delay(_SERVER_SECONDS), tenacity.stop_when_event_set(self.stop)),
            wait=tenacity.wait_fixed(_RETRY_SECONDS),
            sleep=tenacity.sleep_using_event(self.stop),
            reraise=True,
        )

    @contextmanager
    def _recorded(self, trial: optuna.Trial, request: TrainingRequest) -> Iterator[None]:
        """Close the run of a training with what became of it, and remove checkpoints that nothing continues."""
        state, cause = "interrupted", None
        try:
            yield
            state = "complete"
        except optuna.TrialPruned:
            state = "pruned"
            raise
        except TrainingFailedError as error:
            state, cause = "failed", str(error)
            raise
        finally:
            self.runs.close(request.folder, state, cause)
            if state in ("pruned", "failed") or (state == "complete" and not self.phase.keeps_checkpoints):
                shutil.rmtree(request.folder / artifacts.CHECKPOINTS, ignore_errors=True)

    def _train(self, trial: optuna.Trial, request: TrainingRequest, resources: Resources) -> tuple[float, ...]:
        """Return the scores of a training, which is not repeated where it has them already."""
        if request.outcome is None:
            monitor = self._monitor(trial, request)
            try:
                self._patient(TrainingServerError)(self.executor.run, request, resources, monitor)
            except TrainingServerError:
                if self.stop.is_set():  # the next command continues the trial
                    raise TrialInterruptedError("the search was stopped") from None
                raise
            except TrainingKilledError as error:
                self._count_kill(trial, error)
            finally:
                monitor.save()  # after an error too: its time counts, and a trial that another worker has raises
        return self._scores(request)

    def _monitor(self, trial: optuna.Trial, request: TrainingRequest) -> TrialMonitor:
        return TrialMonitor(
            trial,
            metric=self.phase.metrics[0],
            epochs=float(request.settings.get("epochs", self.phase.epochs)),
            reports=self.phase.reports,
            max_seconds=self.phase.max_seconds,
            stop=self.stop,
        )

    def _count_kill(self, trial: optuna.Trial, error: TrainingKilledError) -> None:
        kills = trial.user_attrs.get(Attribute.KILLS, 0) + 1
        trial.set_user_attr(Attribute.KILLS, kills)  # the retry inherits it, on any machine
        if kills > _MAX_KILLS:
            raise TrainingFailedError(str(error)) from None
        raise TrialInterruptedError(str(error)) from None

    def _scores(self, request: TrainingRequest) -> tuple[float, ...]:
        outcome = request.outcome or {}
        if mismatch := request.settings_mismatch:
            raise TrainingFailedError(f"the training did not use its settings ({mismatch})")
        scores = {name: artifacts.final_score(outcome, name) for name in self.phase.metrics}
        missing = [name for name, score in scores.items() if score is None or not math.isfinite(score)]
        if missing:
            raise TrainingFailedError(f"it has no number for {', '.join(missing)}")
        return tuple(score for score in scores.values() if score is not None)

    def _prune(self, trial: optuna.Trial, scores: Sequence[tuple[float, ...]], *, is_last: bool) -> None:
        trial.report(scores[-1][0], len(scores))  # Wilcoxon pairs trials by step: the place of the seed
        if not is_last and trial.should_prune():
            raise optuna.TrialPruned
