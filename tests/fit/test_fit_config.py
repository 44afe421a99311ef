import pytest

from trainer.core.errors import SettingsError
from trainer.fit.config import FitConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("epochs", 0), ("learning_rate", 0.0), ("learning_rate", float("nan")), ("warmup_ratio", 1.0)),
        *(("max_grad_norm", -1.0), ("ema_decay", 1.0), ("layer_decay", 0.0), ("patience", -1)),
        *(("weight_decay", 1.0), ("head_learning_rate_factor", 0.0)),
    ],
)
def test_a_setting_out_of_range_names_itself_and_its_value(name, value):
    with pytest.raises(SettingsError, match=rf"`{name}` must .* got {value:g}\."):
        FitConfig(**{name: value})
