"""What is tried first: settings that are shipped, that did well before, or a whole grid."""

import optuna
import pytest

from trainer import check
from trainer.core.errors import SettingsError
from tuning.space.parser import SPACES, read_space
from tuning.space.warm_start import enqueue_known, read_grid
from tuning.study.trials import Attribute

ANSWER = check.answer({"words": ["--preset", "goemotions-minilm"]})
LOSSES = ("bce", "asl")
TEXT = """
learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}
epochs: {low: 1, high: 4}
batch_size: {choices: [16, 32]}
margin: {low: 0.0, high: 0.2, when: {loss: [asl]}}
"""


@pytest.fixture
def space(tmp_path):
    (tmp_path / "mine.yaml").write_text(TEXT, encoding="utf-8")
    return read_space(str(tmp_path / "mine.yaml"), ANSWER["settings"], ANSWER["known"], LOSSES, [])


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
    alike = {name: ANSWER["settings"][name] for name in ("model", "dataset")}
    presets = {
        "fast": {**alike, "epochs": 1, "loss": "asl"},
        "other-model": {**alike, "model": "a/b", "epochs": 3},
        "other-data": {**alike, "dataset": "a/b", "epochs": 3},
        "other-revision": {**alike, "model_revision": "v2", "epochs": 3},
        "other-loss": {**alike, "loss": "focal", "epochs": 3},
        "no-loss": {**alike, "epochs": 4},
    }
    enqueue_known(study, space, LOSSES, presets, [])
    assert queued(study)[2:] == [("preset fast", start("asl", epochs=1)), ("preset no-loss", start("bce", epochs=4))]


def test_of_the_shipped_presets_the_one_it_starts_from_adds_nothing(study, space):
    assert len(ANSWER["presets"]) == 6
    enqueue_known(study, space, LOSSES, ANSWER["presets"], [])
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


def test_nothing_is_queued_twice(study, space):
    same = {name: str(value).lower() for name, value in start("bce").items()}
    for _ in range(2):
        enqueue_known(study, space, LOSSES, {}, [same, same])
    assert len(study.trials) == 2


def test_with_one_loss_only_that_one_is_tried(study, tmp_path):
    (tmp_path / "mine.yaml").write_text(TEXT, encoding="utf-8")
    space = read_space(str(tmp_path / "mine.yaml"), ANSWER["settings"], ANSWER["known"], ("asl",), [])
    alike = {name: ANSWER["settings"][name] for name in ("model", "dataset")}
    enqueue_known(study, space, ("asl",), {"p": {**alike, "loss": "bce", "epochs": 1}}, [{"loss": "bce"}])
    expected = start("asl")
    del expected["loss"]
    assert queued(study) == [("the settings it starts from", expected)]


@pytest.mark.parametrize("name", [path.stem for path in sorted(SPACES.glob("*.yaml"))])
def test_what_is_queued_is_what_the_trials_have(study, name):
    space = read_space(name, ANSWER["settings"], ANSWER["known"], LOSSES, [])
    enqueue_known(study, space, LOSSES, ANSWER["presets"], [])
    for _, params in queued(study):
        assert space.suggest(study.ask()).items() >= params.items()


class TestGrid:
    def test_is_all_points(self, space):
        assert len(read_grid(space, 2, 100)) == 2 * 2 * 2 + 2 * 2 * 2 * 2

    @pytest.mark.parametrize("trials", [24, 25])
    def test_may_have_as_many_points_as_there_are_trials(self, space, trials):
        assert len(read_grid(space, 2, trials)) == 24

    def test_with_more_is_refused(self, space):
        with pytest.raises(SettingsError, match="trials must cover the grid, but got trials=23 for more points than"):
            read_grid(space, 2, 23)
