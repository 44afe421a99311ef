"""Every figure of Optuna's that a study can have is drawn, and what it cannot have is said."""

import logging
import re

import matplotlib as mpl
import numpy as np
import optuna
import pytest
from matplotlib import pyplot
from matplotlib.image import imread
from optuna.trial import TrialState
from study_parts import make_search, make_study, make_trial

from tuning.reporting import figures
from tuning.reporting.figure_specs import plan

SINGLE = [name for name in figures.CAPTIONS if name != "pareto_front"]
F1 = ["dev macro F1"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return figures.draw(make_search(24), tmp_path_factory.mktemp("drawn"), F1)


def test_every_figure_is_a_png_with_ink(drawn):
    assert drawn.missing == {}
    assert [picture.path.name for picture in drawn.pictures] == [f"{name}.png" for name in SINGLE]
    for picture in drawn.pictures:
        image = imread(picture.path)[..., :3]
        assert picture.path.parent.name == "figures"
        assert picture.caption == figures.CAPTIONS[picture.path.stem]
        assert image.std() > 0.02
        assert np.all(image[[0, -1]] == 1), "something is cut off at the edge"


def test_every_figure_can_be_moved_in():
    found, missing = figures.interactive(make_search(24), F1)

    assert missing == {}
    assert [one.name for one in found] == SINGLE
    for one in found:
        assert one.html.count(f'id="figure-{one.name}"') == 1
        assert '"showSendToCloud": false' in one.html


def test_two_objectives_add_their_front_and_show_the_first_elsewhere(tmp_path):
    study = make_search(16, directions=("maximize", "minimize"))

    pictures = figures.draw(study, tmp_path, ["dev macro F1", "se$onds$"]).pictures
    found, _ = figures.interactive(study, ["dev macro F1", "seconds"])

    assert [picture.path.stem for picture in pictures] == [one.name for one in found] == list(figures.CAPTIONS)
    history = next(one for one in found if one.name == "optimization_history").html
    values = [trial.values[0] for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert all(str(value) in history for value in values)
    assert "Best Value" in history  # a `target` would have lost it


@pytest.mark.parametrize(
    ("found", "left"),
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
            {"timeline", "optimization_history", "slice", "contour", "parallel_coordinate"},
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
        "two losses",
    ],
)
def test_small_studies_have_what_they_can_and_reasons_for_the_rest(found, left, tmp_path):
    study = make_study(*found)
    drawn = figures.draw(study, tmp_path, F1)

    assert {picture.path.stem for picture in drawn.pictures} == left
    assert drawn.missing.keys() == set(SINGLE) - left
    assert all(re.fullmatch(r"[a-z].{10,}[a-z0-9]", reason) for reason in drawn.missing.values())
    assert figures.interactive(study, F1)[1] == drawn.missing


def test_trials_with_an_infinite_score_and_those_queued_again_are_left_out():
    study = make_study(make_trial(0.1), make_trial(float("inf")), make_trial(0.3, surplus=True), make_trial(0.4))
    shown = {drawing.name: drawing.study for drawing in plan(study, F1)}

    complete = [trial.number for trial in shown["slice"].get_trials(states=(TrialState.COMPLETE,))]
    assert complete == [0, 3]
    assert len(shown["timeline"].get_trials(states=(TrialState.COMPLETE,))) == 4


def test_many_parameters_are_cut_to_those_that_matter():
    spaces = {f"p{place}": optuna.distributions.FloatDistribution(0, 1) for place in range(12)}
    random = np.random.default_rng(0)
    found = [make_trial(place, {name: random.random() for name in spaces}, spaces) for place in range(10)]
    drawings = {drawing.name: drawing for drawing in plan(make_study(*found), F1)}

    ranked = drawings["param_importances"].options["params"]
    assert len(ranked) == 12
    assert drawings["slice"].options["params"] == ranked[:8]
    assert drawings["contour"].options["params"] == ranked[:2]


def test_pyplot_is_left_as_it_was(tmp_path):
    mine = pyplot.figure()
    try:
        before, backend = dict(mpl.rcParams), pyplot.get_backend()
        figures.draw(make_study(make_trial(0.5)), tmp_path, F1)

        assert dict(mpl.rcParams) == before
        assert pyplot.get_backend() == backend
        assert pyplot.get_fignums() == [mine.number]
    finally:
        pyplot.close(mine)


def test_a_backend_that_cannot_start_here_is_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.setattr(pyplot, "get_backend", lambda: "module://no.such.window")

    assert len(figures.draw(make_study(make_trial(0.5)), tmp_path, F1).pictures) == 1


def test_nothing_is_logged_of_the_copies():
    study, verbosity, logger = make_study(make_trial(0.5)), optuna.logging.get_verbosity(), logging.getLogger("optuna")
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    try:
        optuna.logging.set_verbosity(optuna.logging.INFO)
        figures.interactive(study, F1)
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.set_verbosity(verbosity)
        logger.removeHandler(handler)

    assert records == []


def test_each_objective_needs_a_name(tmp_path):
    with pytest.raises(ValueError, match=r"names must have one per objective"):
        figures.draw(make_study(directions=("maximize", "minimize")), tmp_path, F1)


def test_text_in_a_figure_cannot_end_its_script():
    evil = "</script><img src=x>"
    space = {"x": optuna.distributions.CategoricalDistribution([evil, "b"])}
    study = make_study(make_trial(0.5, {"x": evil}, space), make_trial(0.4, {"x": "b"}, space))
    found, _ = figures.interactive(study, F1)

    assert {"slice", "timeline"} <= {one.name for one in found}
    assert all(one.html.count("</script>") == 1 and "<img" not in one.html for one in found)
    assert any(r"\u003cimg" in one.html for one in found)
