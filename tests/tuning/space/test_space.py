"""Suggestions, nearest values, grid points and projections are inside the space."""

import math
import warnings

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from space_helpers import OWN, SHARED, SHIPPED, random_trial, settings_of, shipped

from trainer.config import parse
from trainer.core.settings import flatten
from trainer.model.losses.table import LOSSES
from tuning.space.space import Dimension


class TestSuggestions:
    @settings(max_examples=20)
    @given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(SHIPPED))
    def test_lie_in_their_ranges_and_belong_to_their_loss(self, seed, name):
        space = shipped(name, LOSSES)
        trial = random_trial(seed)

        values = space.suggest(trial)

        assert values == trial.params
        assert set(values) == {"loss"} | SHARED | OWN[values["loss"]]
        for one in space.dimensions:
            if one.name in values:
                assert one.nearest(values[one.name]) == values[one.name]
                assert one.choices or one.low <= values[one.name] <= one.high
                assert type(values[one.name]) in ({type(choice) for choice in one.choices} or {int, float})

    @settings(max_examples=20)
    @given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(SHIPPED))
    def test_reach_training_bit_for_bit_as_arguments(self, seed, name):
        space = shipped(name, LOSSES)
        values = space.suggest(random_trial(seed))

        used = flatten(parse([f"--{name}={value}" for name, value in values.items()]))

        assert {key: used[key] for key in values} == values
        assert {key: type(used[key]) for key in values} == {key: type(value) for key, value in values.items()}


FLOATS = st.floats(0.001, 0.9)


@st.composite
def dimensions(draw):
    """A dimension as a file can have it."""
    if draw(st.booleans()):
        choices = draw(st.lists(st.integers(1, 99), min_size=1, max_size=5, unique=True))
        return Dimension(name="batch_size", choices=tuple(choices))
    is_integer, log = draw(st.booleans()), draw(st.booleans())
    if is_integer:
        step = None if log else draw(st.none() | st.integers(1, 5))
        low = draw(st.integers(1, 50))
        high = low + draw(st.integers(1, 30)) * (step or 1)
        return Dimension(name="epochs", is_integer=True, low=float(low), high=float(high), log=log, step=step)
    low, high = sorted(draw(st.lists(FLOATS, min_size=2, max_size=2, unique=True)))
    return Dimension(name="dropout", low=low, high=high, log=log)


class TestValues:
    @given(one=dimensions(), value=st.floats(-100, 200), seed=st.integers(0, 2**32 - 1))
    def test_the_nearest_is_one_that_a_trial_can_have(self, one, value, seed):
        brought = one.nearest(value)
        if one.choices:
            assert brought is None or brought in one.choices
            return
        assert brought is not None
        assert one.low <= brought <= one.high
        assert one.nearest(brought) == brought
        suggested = one.suggest(random_trial(seed))
        assert one.nearest(suggested) == suggested
        assert one.low <= value <= one.high or brought in (one.low, one.high)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Optuna warns of a value out of its range
            assert one.suggest(optuna.trial.FixedTrial({one.name: brought})) == brought

    @given(one=dimensions(), count=st.integers(2, 12))
    def test_points_are_different_values_of_the_range_with_both_ends(self, one, count):
        points = one.points(count)
        assert len(set(points)) == len(points)
        if one.choices:
            assert points == one.choices
            return
        assert list(points) == sorted(points)
        assert (points[0], points[-1]) == (one.low, one.high)
        assert all(one.nearest(point) == point for point in points)
        assert len(points) <= count
        there_are = int(one.high - one.low) // int(one.step or 1) + 1 if one.is_integer else math.inf
        assert len(points) == count or (one.is_integer and (one.log or len(points) <= there_are))
        assert one.ends == one.points(2)

    def test_points_of_a_range_with_steps_are_all_of_them_when_there_are_few(self):
        one = Dimension(name="warmup_ratio", low=0.0, high=0.3, step=0.1)
        assert [round(point, 9) for point in one.points(9)] == [0.0, 0.1, 0.2, 0.3]

    def test_points_of_a_logarithmic_range_are_evenly_spaced_in_ratio(self):
        assert Dimension(name="x", low=1e-4, high=1e-2, log=True).points(3) == pytest.approx((1e-4, 1e-3, 1e-2))


class TestProjection:
    @settings(max_examples=20)
    @given(
        rate=st.floats(1e-9, 1.0), epochs=st.integers(1, 1000), loss=st.sampled_from(LOSSES), batch=st.integers(1, 99)
    )
    def test_brings_settings_to_the_edge_and_leaves_out_what_is_no_choice(self, rate, epochs, loss, batch):
        space = shipped("default", LOSSES)
        values = {
            **settings_of("--preset", "starter"),
            "learning_rate": rate,
            "epochs": epochs,
            "loss": loss,
            "batch_size": batch,
        }

        brought = space.project(values)

        assert brought["learning_rate"] == min(max(rate, 7.5e-5), 1.2e-3)
        assert brought["epochs"] == min(max(epochs, 4), 12)
        assert brought.get("batch_size") == (batch if batch in (16, 32, 64) else None)
        assert set(brought) | {"batch_size"} == {"loss"} | SHARED | OWN[loss]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert space.suggest(optuna.trial.FixedTrial({"batch_size": 16, **brought})) == {
                "batch_size": 16,
                **brought,
            }

    def test_of_its_own_suggestion_is_the_suggestion(self):
        space = shipped("starter", LOSSES)
        for seed in range(20):
            values = space.suggest(random_trial(seed))
            assert space.project({**settings_of("--preset", "starter"), **values}) == values
