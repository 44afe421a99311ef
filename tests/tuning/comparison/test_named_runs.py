"""Finished runs by their ids: grouped into configurations by their settings."""

import pytest

from trainer.config import TrainConfig
from trainer.core.errors import DataError
from trainer.core.settings import from_flat
from tuning.comparison.config import CompareConfig
from tuning.comparison.finished_runs import FinishedRun
from tuning.comparison.named_runs import group_runs, plan_of_runs


def make_runs(*settings):
    return [
        FinishedRun(
            run_id=f"run{number}", folder=None, config=from_flat(TrainConfig, values), data={}, code="", scores={}
        )
        for number, values in enumerate(settings)
    ]


def test_runs_that_differ_in_their_seed_are_one_configuration():
    runs = make_runs(
        *({"loss": "bce", "seed": seed} for seed in (1, 2)),
        *({"loss": "combined", "ratio": 0.5, "seed": seed, "output": str(seed)} for seed in (1, 3)),
        {"loss": "bce", "seed": 1, "epochs": 9},
    )
    grouped = group_runs(runs)

    assert [key[:2] for key in grouped] == [
        *(("bce, epochs=4", seed) for seed in (1, 2)),
        *(("combined:0.5", seed) for seed in (1, 3)),
        ("bce, epochs=9", 1),
    ]
    plan, records = plan_of_runs(CompareConfig(), grouped)
    assert plan.seeds == (1, 2, 3)
    assert plan.planned == (("combined:0.5", "bce, epochs=4"), ("bce, epochs=9", "bce, epochs=4"))
    assert [record.run_id for record in records] == ["run0", "run1", "run2", "run3", "run4"]
    assert all(record.reused for record in records)


def test_the_same_settings_and_seed_twice_are_refused():
    with pytest.raises(DataError, match="run0 and run1"):
        group_runs(make_runs({"loss": "bce"}, {"loss": "bce"}, {"loss": "asl"}))


def test_one_configuration_is_nothing_to_compare():
    with pytest.raises(DataError, match="seeds"):
        group_runs(make_runs({"loss": "bce", "seed": 1}, {"loss": "bce", "seed": 2}))
