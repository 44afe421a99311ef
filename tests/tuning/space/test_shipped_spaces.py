"""The shipped spaces fit every preset and loss."""

import pytest
from space_helpers import OWN, SHARED, SHIPPED, TRAIN_PRESETS, settings_of, shipped

from trainer.config import TrainConfig
from trainer.core.settings import from_flat
from trainer.model.losses.table import LOSSES, losses_that_read


def test_these_spaces_are_shipped():
    assert SHIPPED == ["default", "starter"]
    assert set(OWN) == set(LOSSES)


@pytest.mark.parametrize("preset", TRAIN_PRESETS)
def test_training_accepts_every_end_and_choice(preset):
    space = shipped("default", LOSSES, preset=preset)
    changes = space.to_check()

    for change in changes:
        from_flat(TrainConfig, {**space.base, **change}, origin="the space")
    assert {change["loss"] for change in changes} == set(LOSSES)
    for one in space.dimensions:
        assert set(one.ends) == {change[one.name] for change in changes if one.name in change}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_loss_has_its_own_settings_alone_and_among_others(name):
    together = shipped(name, LOSSES)
    for loss in LOSSES:
        alone = shipped(name, (loss,))
        assert {one.name for one in alone.dimensions} == SHARED | OWN[loss]
        assert not any(one.when for one in alone.dimensions)
        assert alone.base["loss"] == loss
        assert all(not losses_that_read(setting) or loss in losses_that_read(setting) for setting in OWN[loss])
        applying = [one.describe() | {"when": None} for one in together.dimensions[1:] if one.applies({"loss": loss})]
        assert applying == [one.describe() | {"when": None} for one in alone.dimensions]


def test_the_starter_space_differs_in_the_length_of_trainings_only():
    default, starter = (shipped(name, LOSSES).describe() for name in ("default", "starter"))
    assert list(default) == list(starter)
    assert {name for name in default if default[name] != starter[name]} == {"epochs", "batch_size"}
    assert (starter["epochs"]["low"], starter["epochs"]["high"], starter["batch_size"]["choices"]) == (3, 6, [16, 32])


@pytest.mark.parametrize("preset", TRAIN_PRESETS)
def test_the_search_starts_inside_the_default_space(preset):
    base = settings_of("--preset", preset)
    for one in shipped("default", (base["loss"],), preset=preset).dimensions:
        assert one.nearest(base[one.name]) == base[one.name], one
