import pytest

from trainer.core.errors import SettingsError
from trainer.model.config import LossConfig, ModelConfig


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"loss": "assl"}, r"`loss` must"),
        ({"gamma_pos": 5.1}, r"`gamma_pos` .*5.1"),
        ({"gamma_neg": -0.1}, r"`gamma_neg` must"),
        ({"margin": 0.6}, r"`margin` must"),
        ({"alpha": 0.0}, "`alpha` must"),
        ({"alpha": 1.0}, "`alpha` must"),
        ({"gamma": float("nan")}, r"`gamma` .*nan"),
        ({"ratio": 1.5}, r"`ratio` must"),
        ({"class_weights": "ballanced"}, r"`class_weights` must"),
        ({"effective_number_beta": 1.0}, "`effective_number_beta` must"),
        ({"label_smoothing": 0.5}, r"`label_smoothing` must"),
    ],
)
def test_a_loss_setting_out_of_range_is_refused(changes, rule):
    with pytest.raises(SettingsError, match=rule):
        LossConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"model": " "}, "model.* must"),
        ({"model_revision": "main"}, "model_revision.* must"),
        ({"pooling": "max"}, "`pooling` must"),
        ({"dropout": 1.0}, "`dropout` must"),
        ({"dropout": -0.1}, "`dropout` must"),
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
