"""A study has every figure that its trials allow, and a reason for each other one."""

import logging
import re

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from study_helpers import make_search, make_study, make_trial

from tuning.reporting.figure_specs import figure_specs
from tuning.reporting.figures import CAPTIONS, plot_figures

SINGLE = [name for name in CAPTIONS if name != "pareto_front"]
F1 = ["dev macro F1"]


def test_two_objectives_have_every_figure_and_show_the_first():
    study = make_search(16, directions=("maximize", "minimize"))
    found, unavailable = plot_figures(study, ["dev macro F1", "seconds"])

    assert unavailable == {}
    assert [one.name for one in found] == list(CAPTIONS)
    for one in found:
        assert one.html.count(f'id="figure-{one.name}"') == 1
        assert '"showSendToCloud": false' in one.html
    history = next(one for one in found if one.name == "optimization_history").html
    values = [trial.values[0] for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert all(str(value) in history for value in values)
    assert "Best Value" in history  # a `target` would have lost it


@pytest.mark.parametrize(
    ("found", "available"),
    [
        ([], set()),
        ([make_trial(state=TrialState.WAITING)], set()),
        ([make_trial(state=TrialState.RUNNING)], {"timeline"}),
        ([make_trial(0.5)], {"timeline"}),
        ([make_trial(state=TrialState.FAIL, reports=[0.4])], {"timeline"}),
        ([make_trial(0.5, seconds=0.0)], set()),
        ([make_trial(0.5, reports=[0.4]), make_trial(state=TrialState.FAIL)], {"timeline", "intermediate_values"}),
        ([make_trial(0.5), make_trial(0.5)], {"timeline", "optimization_history"}),
        (
            [make_trial(0.1 * place, {"learning_rate": 1e-5 * (place + 1)}) for place in range(9)],
            {"timeline", "optimization_history", "slice"},
        ),
        (
            [make_trial(0.1 * place, {"dropout": 0.1 * place, "layers": place + 1}) for place in range(3)],
            {"timeline", "optimization_history", "slice"},
        ),
        (
            [make_trial(0.1 * place, {"dropout": 0.1 * (place % 5), "layers": place % 4 + 1}) for place in range(8)],
            {"timeline", "optimization_history", "slice", "contour", "parallel_coordinate", "param_importances"},
        ),
        (
            [make_trial(0.5, {"loss": "asl", "margin": 0.1}), make_trial(0.4, {"loss": "combined", "ratio": 0.1})],
            {"timeline", "optimization_history", "slice"},
        ),
    ],
    ids=[
        "none",
        "waiting",
        "running",
        "one",
        "reported, then failed",
        "no time",
        "failed",
        "equal",
        "one parameter",
        "three",
        "eight",
        "two losses",
    ],
)
def test_small_studies_have_reasons_for_the_figures_they_cannot_have(found, available):
    specs = figure_specs(make_study(*found), F1)
    reasons = {spec.name: spec.unavailable_because for spec in specs}

    assert list(reasons) == SINGLE
    assert {name for name, reason in reasons.items() if not reason} == available
    assert all(re.fullmatch(r"[a-z].{10,}[a-z0-9]", reason) for reason in reasons.values() if reason)


def test_the_smallest_studies_can_be_plotted():
    one = make_study(
        make_trial(0.5, {"loss": "asl", "margin": 0.1}), make_trial(0.4, {"loss": "combined", "ratio": 0.1})
    )
    assert [figure.name for figure in plot_figures(one, F1)[0]] == ["optimization_history", "slice", "timeline"]
    assert [figure.name for figure in plot_figures(make_study(make_trial(state=TrialState.RUNNING)), F1)[0]] == [
        "timeline"
    ]


def test_retried_trials_and_those_with_an_infinite_score_are_left_out():
    study = make_study(make_trial(0.1), make_trial(float("inf")), make_trial(0.3, surplus=True), make_trial(0.4))
    shown = {spec.name: spec.study for spec in figure_specs(study, F1)}

    complete = [trial.number for trial in shown["slice"].get_trials(states=(TrialState.COMPLETE,))]
    assert complete == [0, 3]
    assert len(shown["timeline"].get_trials(states=(TrialState.COMPLETE,))) == 4


def test_of_many_parameters_the_important_ones_are_shown():
    spaces = {f"p{place}": optuna.distributions.FloatDistribution(0, 1) for place in range(12)}
    random = np.random.default_rng(0)
    found = [make_trial(place, {name: random.random() for name in spaces}, spaces) for place in range(10)]
    options = {spec.name: spec.options for spec in figure_specs(make_study(*found), F1)}

    ranked = options["param_importances"]["params"]
    assert len(ranked) == 12
    assert options["slice"]["params"] == ranked[:8]
    assert options["contour"]["params"] == ranked[:2]


def test_nothing_is_logged_of_the_copies():
    study, verbosity, logger = make_study(make_trial(0.5)), optuna.logging.get_verbosity(), logging.getLogger("optuna")
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    try:
        optuna.logging.set_verbosity(optuna.logging.INFO)
        plot_figures(study, F1)
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.set_verbosity(verbosity)
        logger.removeHandler(handler)

    assert records == []


def test_each_objective_needs_a_name():
    with pytest.raises(ValueError, match="2 names, got 1"):
        figure_specs(make_study(directions=("maximize", "minimize")), F1)


def test_text_in_a_figure_cannot_end_its_script():
    evil = "</script><img src=x>"
    space = {"x": optuna.distributions.CategoricalDistribution([evil, "b"])}
    study = make_study(make_trial(0.5, {"x": evil}, space), make_trial(0.4, {"x": "b"}, space))
    found, _ = plot_figures(study, F1)

    assert {"slice", "timeline"} <= {one.name for one in found}
    assert all(one.html.count("</script>") == 1 and "<img" not in one.html for one in found)
    assert any(r"\u003cimg" in one.html for one in found)
