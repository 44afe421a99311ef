"""A search in a benchmark: the real command, continued where it was stopped, and what it has left in its folder."""

from dataclasses import dataclass
from math import inf
from pathlib import Path

import optuna
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState

from tests.benchmarks.measure import run_python
from trainer.tracking.event_log import EventLog
from tuning.study.storage import DATABASE
from tuning.study.trials import counted, is_interrupted, run_id, score, scored, seconds

__all__ = ["Searched", "search"]

_STUDY, _OUTPUT = "search", "runs"


def search(folder, trials, **settings):
    """Let the search of this folder have so many trials, unless it has them by now; the tracking store is there too."""
    folder.mkdir(parents=True, exist_ok=True)
    if (found := _load(folder)) is None or len(found.ended) < trials:
        given = {"study": _STUDY, "output": _OUTPUT, "trials": trials, "top_k": 0, **settings}
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        run_python(["-m", "tuning.tune", *words], str(folder))
    return _load(folder)


@dataclass(frozen=True)
class Searched:
    """What a search has left. Trainer-seconds are those of its trainings, added up, however many ran at a time."""

    folder: Path
    study: optuna.Study

    @property
    def ended(self) -> list[FrozenTrial]:
        """Trials that count and have ended, in the order in which they did."""
        found = [trial for trial in counted(self.study) if trial.state.is_finished()]
        return sorted(found, key=lambda trial: trial.datetime_complete)

    @property
    def best(self) -> float:
        """The highest score of a training that was not stopped early."""
        return score(scored(self.study)[0])

    @property
    def trainer_seconds(self) -> float:
        """Of all trials, those that failed or were pruned included."""
        return sum(map(seconds, self.ended))

    @property
    def pruned(self) -> int:
        """Trials that were stopped early."""
        return sum(trial.state == TrialState.PRUNED for trial in self.ended)

    @property
    def cut_off(self) -> int:
        """Trials that were ended from outside and continued; the seconds of one that was killed are not known."""
        return sum(is_interrupted(trial) for trial in self.study.get_trials(deepcopy=False))

    @property
    def trials_per_hour(self) -> float | None:
        """From the begin of the first trial to the end of the last; None for a search that was stopped in between."""
        if self.cut_off:
            return None
        began = min(trial.datetime_start for trial in self.ended)
        return 3600 * len(self.ended) / (self.ended[-1].datetime_complete - began).total_seconds()

    def curve(self) -> list[tuple[float, float]]:
        """Trainer-seconds and best score so far, whenever a trial ends with a score; pruned ones add seconds alone."""
        reached, points, spent = {trial.number for trial in scored(self.study)}, [], 0.0
        for trial in self.ended:
            spent += seconds(trial)
            if trial.number in reached:
                points.append((spent, max([score(trial), *(best for _, best in points)])))
        return points

    def seconds_to(self, wanted: float) -> float:
        """Trainer-seconds until a training has ended with at least this score; infinity when none has."""
        return next((spent for spent, best in self.curve() if best >= wanted), inf)

    def costs(self) -> list[dict[str, float]]:
        """Seconds of each trial, whole and by part; a training is what it records itself, from first to last entry.

        One that was cut off and continued, or failed, is left out.
        """
        client = MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        whole = (TrialState.COMPLETE, TrialState.PRUNED)
        trials = [one for one in self.ended if one.state in whole and "retry_history" not in one.system_attrs]
        return [self._cost(trial, client) for trial in sorted(trials, key=lambda trial: trial.number)]

    def _cost(self, trial, client):
        began, ended = trial.datetime_start.timestamp(), trial.datetime_complete.timestamp()
        trained = run_id(trial)
        with EventLog(self.folder / _OUTPUT / trained) as spool:
            times = [entry.time / 1e3 for entry in spool.events()]
        made = client.get_run(trained).info.start_time / 1e3
        noticed = made + seconds(trial)  # the clock of the training starts when its run is made
        return {
            "number": trial.number,
            "whole": ended - began,
            "beside": ended - began - (times[-1] - times[0]),
            "suggesting": made - began,
            "starting": times[0] - made,
            "ending": noticed - times[-1],
            "closing": ended - noticed,
        }


def _load(folder):
    path = folder / _OUTPUT / DATABASE
    if not path.is_file():
        return None
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    if _STUDY not in optuna.get_all_study_names(storage):
        return None
    return Searched(folder, optuna.load_study(study_name=_STUDY, storage=storage))
