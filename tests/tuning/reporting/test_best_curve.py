"""The curve of the best score: one point per trial, in the order of their numbers, each logged once."""

import optuna
from optuna.trial import TrialState, create_trial

from tuning.reporting.best_curve import BestCurve


class Tracker:
    def __init__(self):
        self.points = []

    def log_metrics(self, metrics, step):
        self.points.append((step, metrics["search/best"]))


def add(study, state, value=None):
    study.add_trial(create_trial(state=state, value=value))


def test_each_ended_trial_is_one_point_of_the_best_so_far():
    study, tracker = optuna.create_study(direction="maximize"), Tracker()
    curve = BestCurve(tracker)
    add(study, TrialState.FAIL)
    add(study, TrialState.COMPLETE, 0.4)
    curve(study)
    add(study, TrialState.PRUNED)
    running = study.ask()
    add(study, TrialState.COMPLETE, 0.6)
    curve(study)
    assert tracker.points == [(1, 0.4), (2, 0.4)]  # a point follows when trial 3 has ended
    study.tell(running, 0.5)
    curve(study)
    assert tracker.points == [(1, 0.4), (2, 0.4), (3, 0.5), (4, 0.6)]
