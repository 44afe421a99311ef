"""The best score of a search so far, as a curve on MLflow's page."""

import threading
from collections.abc import Iterator

import optuna

from trainer.tracking.run import Tracker
from tuning.study import trials

__all__ = ["BestCurve"]

METRIC = "search/best"


class BestCurve:
    """Logs the best score up to each trial at the step of its number, once all trials before it have ended."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._next = 0
        self._lock = threading.Lock()  # trials end in the threads of several workers

    def __call__(self, study: optuna.Study, _trial: object = None) -> None:
        """Log the points that are new. A callback of `study.optimize`."""
        with self._lock:
            for number, best in _best_so_far(study):
                if number >= self._next:
                    self._tracker.log_metrics({METRIC: best}, number)
                    self._next = number + 1


def _best_so_far(study: optuna.Study) -> Iterator[tuple[int, float]]:
    best: float | None = None
    scored = {trial.number for trial in trials.scored(study)}
    for trial in trials.started(study):
        if not trial.state.is_finished():
            return
        if trial.number in scored:
            best = trials.score(trial) if best is None else max(best, trials.score(trial))
        if best is not None:
            yield trial.number, best
