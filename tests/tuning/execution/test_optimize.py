"""What the progress of a phase shows."""

from types import SimpleNamespace

import optuna
import pytest

from trainer.reporting import console
from tuning.execution.optimize import Optimizer


class FakeProgress:
    def __init__(self):
        self.shown = []

    def update(self, ended, numbers):
        self.shown.append(dict(numbers))


@pytest.mark.parametrize(
    ("reports", "prunes_by_seed", "expected"),
    [(0, False, ["running", "failed", "best"]), (4, False, ["running", "pruned", "failed", "best"])],
)
def test_pruned_trials_are_counted_where_trials_can_be_pruned(reports, prunes_by_seed, expected):
    phase = SimpleNamespace(reports=reports, prunes_by_seed=prunes_by_seed, name=lambda trial: "one")
    study = optuna.create_study(direction="maximize")
    study.add_trial(optuna.trial.create_trial(value=0.25))
    optimizer = Optimizer(study, SimpleNamespace(phase=phase), 1, 1, console.make())
    optimizer._progress = progress = FakeProgress()
    optimizer._show(study, study.trials[0])
    assert [list(numbers) for numbers in progress.shown] == [expected]
    assert progress.shown[0]["best"] == 0.25
