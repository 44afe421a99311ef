"""A grid has every combination of values that applies, and at most as many as there are trials."""

import pytest

from trainer.core.errors import SettingsError
from tuning.space.grid import make_grid


def test_every_combination_is_there_once(read):
    space = read("epochs: {low: 2, high: 4}\nbatch_size: {choices: [16, 32]}\nwarmup_ratio: {low: 0.0, high: 0.2}")
    grid = make_grid(space, 5, 30)
    assert len(grid) == 3 * 2 * 5  # there are three integers from 2 to 4
    assert len({tuple(point.items()) for point in grid}) == len(grid)
    with pytest.raises(SettingsError, match=r"`trials`.* got 29 with grid_points=5"):
        make_grid(space, 5, 29)


def test_a_branch_has_only_the_settings_that_apply(read):
    text = "dropout: {low: 0.0, high: 0.2}\nmargin: {low: 0.0, high: 0.2}"
    grid = make_grid(read(text, losses=("bce", "asl")), 3, 99)

    assert len(grid) == 3 + 3 * 3
    assert all(("margin" in point) == (point["loss"] == "asl") for point in grid)


def test_a_condition_may_name_another_setting(read):
    text = "schedule: {choices: [linear, cosine_with_restarts]}\n"
    text += "restarts: {low: 2, high: 4, when: {schedule: [cosine_with_restarts]}}"
    grid = make_grid(read(text), 3, 99)

    assert len(grid) == 1 + 3
    assert {"schedule": "linear"} in grid
