"""The first trials have the starting settings, those of presets, and those of earlier runs."""

import optuna
import pytest
from space_helpers import COMPONENTS, SHIPPED, presets, settings_of

from tuning.space.parser import read_space
from tuning.space.warm_start import enqueue_known
from tuning.study.trials import Attribute

BASE = settings_of("--preset", "goemotions-minilm")
LOSSES = ("bce", "asl")
TEXT = """
learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}
epochs: {low: 1, high: 4}
batch_size: {choices: [16, 32]}
margin: {low: 0.0, high: 0.2}
"""


@pytest.fixture
def space(tmp_path):
    (tmp_path / "mine.yaml").write_text(TEXT, encoding="utf-8")
    return read_space(str(tmp_path / "mine.yaml"), BASE, COMPONENTS, LOSSES, [])


@pytest.fixture
def study():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize")


def queued(study):
    return [(one.user_attrs[Attribute.WARM_START], one.system_attrs["fixed_params"]) for one in study.trials]


def start(loss, **changes):
    values = {"loss": loss, "learning_rate": 1e-4, "epochs": 2, "batch_size": 32}
    return values | ({"margin": 0.05} if loss == "asl" else {}) | changes


def test_the_start_is_tried_with_each_loss(study, space):
    enqueue_known(study, space, LOSSES, {}, [])
    assert queued(study) == [("the settings it starts from", start(loss)) for loss in LOSSES]


def test_only_presets_for_the_same_model_and_data_are_tried(study, space):
    same = {name: BASE[name] for name in ("model", "dataset")}
    presets = {
        "fast": {**same, "epochs": 1, "loss": "asl"},
        "other-model": {**same, "model": "a/b", "epochs": 3},
        "other-data": {**same, "dataset": "a/b", "epochs": 3},
        "other-revision": {**same, "model_revision": "v2", "epochs": 3},
        "other-loss": {**same, "loss": "focal", "epochs": 3},
        "no-loss": {**same, "epochs": 4},
    }
    enqueue_known(study, space, LOSSES, presets, [])
    assert queued(study)[2:] == [("preset fast", start("asl", epochs=1)), ("preset no-loss", start("bce", epochs=4))]


def test_of_the_shipped_presets_the_one_it_starts_from_adds_nothing(study, space):
    assert len(presets()) == 6
    enqueue_known(study, space, LOSSES, presets(), [])
    assert queued(study) == [("the settings it starts from", start(loss)) for loss in LOSSES]


def test_earlier_runs_have_numbers_again_and_come_last(study, space):
    runs = [
        {"loss": "asl", "learning_rate": "0.0003", "epochs": "3", "margin": "0.1", "compile": "true", "gone": "1"},
        {"loss": "focal", "learning_rate": "0.0004"},
        {"loss": "bce", "learning_rate": "0.5", "epochs": "90", "batch_size": "48"},
    ]
    enqueue_known(study, space, LOSSES, {}, runs)
    brought = start("bce", learning_rate=1e-3, epochs=4)
    del brought["batch_size"]  # 48 is none of the choices: it is suggested
    assert queued(study)[2:] == [
        ("an earlier run", start("asl", learning_rate=3e-4, epochs=3, margin=0.1)),
        ("an earlier run", brought),
    ]
    assert {type(params["epochs"]) for _, params in queued(study)} == {int}


def test_a_value_of_an_earlier_version_is_the_one_of_now(study, tmp_path):
    (tmp_path / "mine.yaml").write_text("attention: {choices: [window, stock]}", encoding="utf-8")
    space = read_space(str(tmp_path / "mine.yaml"), BASE, COMPONENTS, ("bce",), [])
    assert space.dimensions[0].choices == ("compact", "stock")
    enqueue_known(study, space, ("bce",), {}, [{"loss": "bce", "attention": "window"}])
    assert ("an earlier run", {"attention": "compact"}) in queued(study)


def test_nothing_is_queued_twice(study, space):
    same = {name: str(value).lower() for name, value in start("bce").items()}
    for _ in range(2):
        enqueue_known(study, space, LOSSES, {}, [same, same])
    assert len(study.trials) == 2


def test_with_one_loss_only_that_one_is_tried(study, tmp_path):
    (tmp_path / "mine.yaml").write_text(TEXT, encoding="utf-8")
    space = read_space(str(tmp_path / "mine.yaml"), BASE, COMPONENTS, ("asl",), [])
    same = {name: BASE[name] for name in ("model", "dataset")}
    enqueue_known(study, space, ("asl",), {"p": {**same, "loss": "bce", "epochs": 1}}, [{"loss": "bce"}])
    expected = start("asl")
    del expected["loss"]
    assert queued(study) == [("the settings it starts from", expected)]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_trials_have_the_queued_values(study, name):
    space = read_space(name, BASE, COMPONENTS, LOSSES, [])
    enqueue_known(study, space, LOSSES, presets(), [])
    for _, params in queued(study):
        assert space.suggest(study.ask()).items() >= params.items()
