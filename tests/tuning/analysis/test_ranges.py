"""Ranges of the good trials come from the best quarter, and a best value near an end is at an edge."""

import math

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from study_helpers import make_search, make_study, make_trial

from trainer.reporting.report import DASH
from tuning.analysis.narrative import describe_edges
from tuning.analysis.ranges import parameter_ranges


def study_of(space, values, scores=None):
    scores = range(len(values)) if scores is None else scores
    pairs = zip(scores, values, strict=True)
    found = [make_trial(score, {"x": value}, {"x": space}) for score, value in pairs]
    return make_study(*found)


def test_good_trials_are_the_middle_half_of_the_best_quarter():
    (one,) = parameter_ranges(study_of(FloatDistribution(0.0, 1.0), [place / 20 for place in range(20)]))

    assert one.good == f"0.8 {DASH} 0.9"  # of 0.75, 0.8, 0.85, 0.9, 0.95
    assert (one.searched, one.best) == (f"0 {DASH} 1", "0.95")


def test_on_a_log_scale_the_quartiles_are_of_the_logarithm():
    (one,) = parameter_ranges(study_of(FloatDistribution(1e-6, 1.0, log=True), [1e-5] * 6 + [1e-4, 1e-2]))

    assert one.good == f"{math.sqrt(1e-6) / 10**0.5:.3g} {DASH} {10**-2.5:.3g}"
    assert one.searched == f"1e-06 {DASH} 1, log"


def test_choices_are_counted_among_the_good_trials():
    (one,) = parameter_ranges(study_of(CategoricalDistribution(["a", "b"]), ["a"] * 6 + ["b", "a", "b", "b"]))

    assert one.good == "b (2 of 3), a (1 of 3)"
    assert (one.searched, one.best, one.edge) == ("a, b", "b", "")


@pytest.mark.parametrize(
    ("space", "best", "edge"),
    [
        (FloatDistribution(0.0, 1.0), 0.97, "upper"),
        (FloatDistribution(0.0, 1.0), 0.9, ""),
        (FloatDistribution(0.0, 1.0), 0.0, "lower"),
        (FloatDistribution(1e-5, 1e-3, log=True), 1.1e-5, "lower"),
        (FloatDistribution(1e-5, 1e-3), 1e-4, ""),
        (IntDistribution(1, 4), 4, "upper"),
        (IntDistribution(1, 4), 3, ""),
    ],
)
def test_the_best_value_at_the_end_of_a_range_is_an_edge(space, best, edge):
    found = parameter_ranges(
        study_of(space, [space.high / 2 if isinstance(space, FloatDistribution) else 2] * 7 + [best])
    )

    assert found[0].edge == edge
    assert len([line for line in describe_edges(found) if "widen it" in line]) == bool(edge)


def test_few_trials_say_nothing_about_good_ones_or_edges():
    (one,) = parameter_ranges(study_of(FloatDistribution(0.0, 1.0), [0.5, 1.0]))

    assert (one.good, one.edge, one.best) == ("", "", "1")


def test_parameters_that_the_best_trial_lacks_have_no_best_value():
    by_name = {one.name: one for one in parameter_ranges(make_search(40))}

    assert set(by_name) == {"loss", "learning_rate", "dropout", "layers", "ratio", "margin", "gamma"}
    assert (by_name["ratio"].best == "") != (by_name["margin"].best == "")


def test_a_parameter_with_one_possible_value_was_not_searched():
    assert parameter_ranges(study_of(FloatDistribution(0.5, 0.5), [0.5] * 8)) == []
    assert parameter_ranges(make_study()) == []
