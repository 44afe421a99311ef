"""The configurations of a comparison: `configs`, the file of a plan, and what training says about them."""

import pytest

from trainer.config import PRESETS, TrainConfig
from trainer.core import presets, settings
from trainer.core.errors import SettingsError
from tuning.comparison.checks import check_configurations
from tuning.comparison.configurations import read_configs, read_plan_file
from tuning.training_settings import TrainingSettings


@pytest.fixture
def plan(tmp_path):
    """Read a plan of this text."""

    def read(text):
        path = tmp_path / "plan.yaml"
        path.write_text(text)
        return read_plan_file(str(path))

    return read


def check(configurations, **given):
    values = {**presets.load_preset("starter", PRESETS), **given}
    config = settings.from_flat(TrainConfig, values)
    check_configurations(configurations, TrainingSettings.of(config, given, {}))


def test_losses_with_their_ratio():
    found = read_configs("bce, asl,combined:0.7,combined:0.5")

    assert found.changes == {
        "bce": {"loss": "bce"},
        "asl": {"loss": "asl"},
        "combined:0.7": {"loss": "combined", "ratio": 0.7},
        "combined:0.5": {"loss": "combined", "ratio": 0.5},
    }
    assert found.planned == (("asl", "bce"), ("combined:0.7", "bce"), ("combined:0.5", "bce"))
    check(found, gamma_pos=1)


def test_without_names_the_five_losses_are_compared():
    assert list(read_configs("").changes) == ["bce", "asl", "combined:0.7", "combined:0.5", "combined:0.3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bce", "2 to 100 configurations, got 1"),
        ("bce,bce", "`configs` .*bce twice"),
        ("bce,asll", "`configs` .*asll.* Did you mean `asl`"),
        ("bce,asl:0.7", "`configs` .*asl:0.7"),
        ("bce,combined:much", "`configs` .*combined:much"),
        ("bce,", "`configs` .*''"),
    ],
)
def test_a_wrong_name_is_refused(text, message):
    with pytest.raises(SettingsError, match=message):
        read_configs(text)


def test_a_plan_names_configurations_pairs_and_settings(plan):
    found = plan(
        "configurations:\n  bce: {loss: bce}\n  slow: {loss: bce, learning_rate: 1e-5}\n  asl: {loss: asl}\n"
        "baseline: slow\nplanned: [[asl, slow]]\nsettings: {epochs: 3}\n"
        "seeds: 5\nmetric: micro_f1\nmin_effect: 0.02\nequal_steps: false\n"
    )

    assert list(found.changes) == ["slow", "bce", "asl"]
    assert found.planned == (("asl", "slow"),)
    assert found.shared == {"epochs": 3}
    assert found.command == {"seeds": 5, "metric": "micro_f1", "min_effect": 0.02}
    assert not found.equal_steps


def test_each_change_alone_is_compared_with_the_baseline(plan):
    found = plan("baseline: {loss: bce}\nchanges:\n  smooth: {label_smoothing: 0.1}\n  asl: {loss: asl}\n")

    assert found.changes == {
        "baseline": {"loss": "bce"},
        "smooth": {"loss": "bce", "label_smoothing": 0.1},
        "asl": {"loss": "asl"},
    }
    assert found.planned == (("smooth", "baseline"), ("asl", "baseline"))


_TWO = "configurations: {a: {loss: bce}, b: {loss: asl}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("configuration: {}\n", "`configuration` .*Did you mean `configurations`"),
        ("seeds: 3\n", "either `configurations` or `changes`, got neither"),
        (_TWO + "changes: {c: {dropout: 0}}\n", "got both"),
        (_TWO + "baseline: c\n", "`baseline` .*c"),
        (_TWO + "planned: [[a, c]]\n", "`planned` .*c"),
        (_TWO + "planned: [[a, a]]\n", "`planned`"),
        (_TWO + "planned: [[a, b], [b, a]]\n", "`planned`"),
        (_TWO + "planned: []\n", "`planned`"),
        (_TWO + "planned: {a: b}\n", "`planned`"),
        (_TWO + "equal_steps: 1\n", "`equal_steps` .*1"),
        ("configurations: [a, b]\n", "`configurations`"),
        ("configurations: {a: bce, b: asl}\n", "`a` .*bce"),
        ("configurations: {1: {loss: bce}, b: {}}\n", "`configurations` .*1"),
        ("configurations: {a: {loss: [bce]}, b: {}}\n", "`a` .*bce"),
        ("changes: {baseline: {loss: bce}}\n", "baseline"),
    ],
)
def test_a_wrong_plan_is_refused(plan, text, message):
    with pytest.raises(SettingsError, match=message):
        plan(text)


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("{b: {los: asl}}", {}, "`los` .*configuration b.*Did you mean `loss`"),
        ("{b: {dropout: 2}}", {}, "`dropout` .*2"),
        ("{b: {loss: bce, ratio: 0.5}}", {}, "`ratio` .*loss=bce"),
        ("{b: {seed: 3}}", {}, "`seed` .*3"),
        ("{b: {dataset: other}}", {}, "`dataset` .*other"),
        ("{b: {max_train_rows: 10}}", {}, "`max_train_rows` .*10"),
        ("{b: {epochs: 2}}", {}, "`epochs` .*8 in baseline and 2 in b.*equal_steps"),
        ("{b: {loss: combined, dropout: 0.1}}", {}, "b trains with the settings of baseline"),
        ("{b: {loss: bce}, c: {loss: asl}}", {"restarts": 3}, "`restarts` .*schedule=linear"),
        ("{b: {loss: bce}, c: {loss: asl}}", {"effective_number_beta": 0.9, "class_weights": "none"}, "`effective_num"),
    ],
)
def test_what_training_refuses_or_makes_unfair_is_refused(plan, text, given, message):
    with pytest.raises(SettingsError, match=message):
        check(plan(f"changes: {text}\n"), **given)


def test_other_steps_and_lengths_may_be_planned(plan):
    check(plan("equal_steps: false\nchanges: {b: {epochs: 2}, c: {max_length: 32}, d: {loss: asl}}\n"), gamma_pos=1)


def test_a_shared_setting_that_every_configuration_sets_has_no_effect():
    with pytest.raises(SettingsError, match="`loss` has no effect"):
        check(read_configs("bce,asl"), loss="bce")
