"""A search of a benchmark: runs or continues the real command and reads scores and times from its study."""

from dataclasses import dataclass
from math import inf
from pathlib import Path

import optuna
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState

from tests.benchmarks.common.processes import as_arguments, run_python
from trainer.tracking.event_log import EventLog
from tuning.study.storage import DATABASE
from tuning.study.trials import counted, is_interrupted, run_id, score, scored, seconds

__all__ = ["SearchResults", "search"]

_STUDY, _OUTPUT = "search", "runs"
_RETRIED = "retry_history"
"""System attribute with which Optuna marks a retry."""


def search(folder, trials, **settings):
    """Run the search of a folder until it has this number of finished trials; return its results."""
    folder.mkdir(parents=True, exist_ok=True)
    results = _load(folder)
    if results is None or len(results.finished) < trials:
        own = {"study": _STUDY, "output": _OUTPUT, "trials": trials, "top_k": 0, **settings}
        run_python(["-m", "tuning.tune", *as_arguments(own)], str(folder))
        results = _load(folder)
    return results


@dataclass(frozen=True)
class SearchResults:
    """The study of a search. Training seconds add up over trials, also over those that ran in parallel."""

    folder: Path
    study: optuna.Study

    @property
    def finished(self) -> list[FrozenTrial]:
        """Return the counted trials that have finished, in the order of their ends."""
        trials = [trial for trial in counted(self.study) if trial.state.is_finished()]
        return sorted(trials, key=lambda trial: trial.datetime_complete)

    @property
    def best(self) -> float:
        """Return the highest score of a complete trial."""
        return score(scored(self.study)[0])

    @property
    def training_seconds(self) -> float:
        """Return the training seconds of all finished trials, pruned and failed ones included."""
        return sum(map(_training_seconds, self.finished))

    @property
    def num_pruned(self) -> int:
        """Return the number of pruned trials."""
        return sum(trial.state == TrialState.PRUNED for trial in self.finished)

    @property
    def num_interrupted(self) -> int:
        """Return the number of trials that were interrupted and retried."""
        return sum(is_interrupted(trial) for trial in self.study.get_trials(deepcopy=False))

    @property
    def trials_per_hour(self) -> float | None:
        """Return the rate from the start of the first trial to the end of the last; None for an interrupted search."""
        if self.num_interrupted:
            return None
        start = min(trial.datetime_start for trial in self.finished)
        return 3600 * len(self.finished) / (self.finished[-1].datetime_complete - start).total_seconds()

    def curve(self) -> list[tuple[float, float]]:
        """Return training seconds and best score so far at the end of each complete trial."""
        complete, points, spent = {trial.number for trial in scored(self.study)}, [], 0.0
        for trial in self.finished:
            spent += _training_seconds(trial)
            if trial.number in complete:
                points.append((spent, max([score(trial), *(best for _, best in points)])))
        return points

    def seconds_to(self, goal: float) -> float:
        """Return the training seconds until a trial completes with at least this score; infinity without one."""
        return next((spent for spent, best in self.curve() if best >= goal), inf)

    def trial_times(self) -> list[dict[str, float]]:
        """Return the seconds of each trial: all, outside the training, and the parts of the latter.

        A training lasts from its first to its last event. Failed and retried trials are left out.
        """
        client = MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        ended = (TrialState.COMPLETE, TrialState.PRUNED)
        trials = [trial for trial in self.finished if trial.state in ended and _RETRIED not in trial.system_attrs]
        return [self._times(trial, client) for trial in sorted(trials, key=lambda trial: trial.number)]

    def _times(self, trial, client):
        start, end = trial.datetime_start.timestamp(), trial.datetime_complete.timestamp()
        run = run_id(trial)
        with EventLog(self.folder / _OUTPUT / run) as log:
            events = [event.time / 1e3 for event in log.events()]
        created = client.get_run(run).info.start_time / 1e3
        process_end = created + _training_seconds(trial)  # the search counts from the creation of the run
        return {
            "number": trial.number,
            "all": end - start,
            "outside": end - start - (events[-1] - events[0]),
            "suggesting": created - start,
            "starting": events[0] - created,
            "ending": process_end - events[-1],
            "closing": end - process_end,
        }


def _training_seconds(trial):
    """Return 0 for a trial that failed before its training began."""
    value = seconds(trial)
    return 0.0 if value is None else value


def _load(folder):
    path = folder / _OUTPUT / DATABASE
    if not path.is_file():
        return None
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    if _STUDY not in optuna.get_all_study_names(storage):
        return None
    return SearchResults(folder, optuna.load_study(study_name=_STUDY, storage=storage))
