import pytest

from trainer.core.errors import SettingsError
from trainer.model.config import LossConfig, ModelConfig


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"loss": "assl"}, r"loss must be one of bce, .*loss='assl'.*`asl`"),
        ({"gamma_pos": 5.1}, r"gamma_pos must be in \[0, 5\], but got gamma_pos=5.1"),
        ({"gamma_neg": -0.1}, r"gamma_neg must be in \[0, 10\]"),
        ({"margin": 0.6}, r"margin must be in \[0, 0.5\]"),
        ({"alpha": 0.0}, "alpha must be above 0 and below 1"),
        ({"alpha": 1.0}, "alpha must be above 0 and below 1"),
        ({"gamma": float("nan")}, r"gamma must be in \[0, 10\], but got gamma=nan"),
        ({"ratio": 1.5}, r"ratio must be in \[0, 1\]"),
        ({"class_weights": "ballanced"}, r"class_weights must be one of .*`balanced`"),
        ({"effective_number_beta": 1.0}, "effective_number_beta must be at least 0 and below 1"),
        ({"label_smoothing": 0.5}, r"label_smoothing must be in \[0, 0.5\)"),
    ],
)
def test_a_loss_setting_out_of_range_is_refused(changes, rule):
    with pytest.raises(SettingsError, match=rule):
        LossConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"model": " "}, "model must not be empty"),
        ({"model_revision": "main"}, "model_revision must be empty for the starter"),
        ({"pooling": "max"}, "pooling must be one of mean, cls"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1"),
    ],
)
def test_a_model_setting_out_of_range_is_refused(changes, rule):
    with pytest.raises(SettingsError, match=rule):
        ModelConfig(**changes)


def test_the_ends_of_the_ranges_are_allowed():
    ends = LossConfig(gamma_pos=5, gamma_neg=10, margin=0.5, gamma=0, ratio=1, effective_number_beta=0)
    assert (ends.gamma_pos, ends.ratio) == (5, 1)
    assert LossConfig(class_weights="weights/mine.json").class_weights == "weights/mine.json"
    assert ModelConfig(model="org/name", model_revision="v1", dropout=0).model_revision == "v1"
