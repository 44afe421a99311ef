"""The settings of a comparison: their names on the command line and their rules."""

import dataclasses

import pytest

from trainer.config import TrainConfig
from trainer.core import settings
from trainer.core.errors import SettingsError
from tuning.comparison.config import CompareConfig

NAMES = (
    *("configs", "file", "runs", "comparison", "seeds", "seed", "metric", "min_effect", "resamples"),
    *("workers", "worker", "trial_minutes", "reuse", "output"),
)


def test_the_command_line_is_the_one_on_record():
    """Others build on these names. Change them together with CHANGELOG.md."""
    assert tuple(field.name for field in dataclasses.fields(CompareConfig)) == NAMES


def test_only_seed_and_output_are_settings_of_training_too():
    shared = settings.flatten(CompareConfig()).keys() & settings.flatten(TrainConfig()).keys()
    assert shared == {"seed", "output"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"configs": "bce,asl", "file": "plan.yaml"}, "`configs`, `file` and `runs` .*configs and file"),
        ({"comparison": " c"}, "`comparison` must"),
        ({"seeds": 0}, "`seeds` .*0"),
        ({"seed": -1}, "`seed` .*-1"),
        ({"metric": "accuracy"}, "`metric` must"),
        ({"min_effect": 1}, "`min_effect` .*1"),
        ({"min_effect": "nan"}, "`min_effect` .*nan"),
        ({"resamples": 99}, "`resamples` .*99"),
        ({"workers": "some"}, "`workers` .*some"),
        ({"trial_minutes": -1}, "`trial_minutes` .*-1"),
        ({"runs": "a,b", "worker": "true"}, "`worker` .*true"),
        ({"runs": "a,b", "seeds": 5}, "`seeds` .*5"),
    ],
)
def test_a_rule_that_is_broken_is_named(values, message):
    words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    with pytest.raises(SettingsError, match=message):
        settings.parse(CompareConfig, words)
