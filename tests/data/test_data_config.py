import pytest

from trainer.core.errors import SettingsError
from trainer.data.config import DataConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 3}, "max_length.* 100000.*got 3"),
        ({"overlap": "ignore"}, "overlap.* drop or keep, .*got .*ignore"),
        ({"max_train_rows": -1}, "max_train_rows.* 0 is all.*got -1"),
        ({"dataset": " "}, "dataset.* must not be empty"),
        ({"text_column": ""}, "text_column.* must not be empty"),
        ({"label_column": "text"}, "text_column.*label_column.* differ, got text"),
        ({"dataset_revision": "main"}, "dataset_revision.* empty for the starter.* got main"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        DataConfig(**settings)
