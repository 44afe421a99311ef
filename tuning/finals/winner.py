"""The winner of a search: its model reads test, is retrained on train and dev on request, and can be promoted."""

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from trainer.core import artifacts
from trainer.core.errors import TuningError
from trainer.core.run_folder import has_results
from tuning.execution.executor import Executor, TrainingFailedError, TrainingKilledError, TrainingRequest
from tuning.execution.monitor import TrialInterruptedError
from tuning.execution.resources import Resources
from tuning.execution.runs import Runs
from tuning.finals.statistics import FinalRun, rank
from tuning.study.trials import settings

__all__ = ["Winner", "WinnerTraining", "train_winner"]

_WINNER_RUNS = "winners"
"""Study attribute: the runs created for winners, by their source."""


@dataclass(frozen=True)
class Winner:
    """The settings with the best mean over the seeds, and the model trained with them."""

    trial: int
    """Its number in the search."""
    seed: int
    run_id: str
    settings: Mapping[str, Any]
    """Those that differ from the settings of the study."""
    scores: Mapping[str, float]
    """All scores of the model, with those on test."""


@dataclass(frozen=True, kw_only=True)
class WinnerTraining:
    """How the last trainings of a search run."""

    settings: Mapping[str, Any]
    """Settings that all trials share, with read_test=true."""
    output: Path
    resources: Resources
    runs: Runs
    executor: Executor
    stop: threading.Event

    def train(self, settings: Mapping[str, Any], run_id: str) -> TrainingRequest:
        """Train to the end, unless the run has its results. settings: those of the winner.

        Raises TuningError when the training fails, TrialInterruptedError on a stop.
        """
        request = TrainingRequest({**self.settings, **settings}, self.output / run_id)
        if not has_results(request.folder, with_test=True):
            self._run(request)
        if mismatch := request.settings_mismatch:
            raise TuningError(f"The training of run {run_id} did not use its settings ({mismatch}).")
        return request

    def _run(self, request: TrainingRequest) -> None:
        state, cause = "interrupted", None
        try:
            self.executor.run(request, self.resources, self)
            if not has_results(request.folder, with_test=True):
                raise TrainingFailedError("it has no scores on test")
            state = "complete"
        except (TrainingFailedError, TrainingKilledError) as error:
            state, cause = "failed", str(error)
            raise TuningError(
                f"Training of the winning configuration failed (run {request.folder.name}): {error}. "
                "Fix it and run the same command again."
            ) from None
        finally:
            self.runs.close(request.folder, state, cause)

    def report(self, metrics: Sequence[Mapping[str, float]]) -> None:
        """Ignore scores on the way."""

    def check(self) -> None:
        """Raise TrialInterruptedError on a stop of the command."""
        if self.stop.is_set():
            raise TrialInterruptedError("the search was stopped")


def train_winner(finals: Sequence[FinalRun], study: optuna.Study, training: WinnerTraining, *, retrain: bool) -> Winner:
    """Return the winner with its model, the only one that reads test: that of the seed with the best dev score.

    retrain: train once more, on train and dev. Raises TuningError when no final has a score or a training fails.
    """
    first = rank(finals)[0]
    of_first = [final for final in finals if final.trial == first.trial and final.score is not None]
    if not of_first:
        raise TuningError(
            "No final has a score: every training failed. See their logs and run the same command again; it trains "
            "them once more."
        )
    # The lower seed of equal scores, so that a repeated command finds the same winner.
    best = max(of_first, key=lambda final: (final.score or 0.0, -final.seed))
    found = settings(study, first.trial)
    changes, tags = {**found, "seed": best.seed}, {artifacts.TAG_STUDY: study.study_name}
    run_id, name = best.run_id, f"{study.study_name} winner"
    if not (training.output / run_id).is_dir():  # it was trained on another machine
        run_id = _get_or_create_run(study, run_id, lambda: training.runs.create(name, tags))
    done = training.train(changes, run_id)
    training.runs.rename(run_id, name)
    if retrain:
        retrained = f"{name} on train and dev"
        again = _get_or_create_run(study, f"{run_id} on train and dev", lambda: training.runs.create(retrained, tags))
        done = training.train({**changes, "retrain_from": run_id}, again)
    # Last: an interrupted winner continues from its checkpoint.
    for run in {final.run_id for final in finals if final.run_id}:
        shutil.rmtree(training.output / run / artifacts.CHECKPOINTS, ignore_errors=True)
    return Winner(first.trial, best.seed, done.folder.name, found, done.outcome or {})


def _get_or_create_run(study: optuna.Study, source: str, create: Callable[[], str]) -> str:
    """Return the run created from this source, now or by an earlier command."""
    known: dict[str, str] = study.user_attrs.get(_WINNER_RUNS, {})
    if source not in known:
        known = {**known, source: create()}
        study.set_user_attr(_WINNER_RUNS, known)
    return known[source]
