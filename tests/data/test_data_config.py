import subprocess
import sys

import pytest

from trainer.core.errors import SettingsError
from trainer.data.config import DataConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 3}, r"max_length must be at least 4 pieces, but got self\.max_length=3"),
        ({"overlap": "ignore"}, "overlap must be one of drop, keep, but got self.overlap='ignore'"),
        ({"max_train_rows": -1}, "max_train_rows must be 0 .* but got self.max_train_rows=-1"),
        ({"dataset": " "}, "dataset must not be empty, but got dataset=' '"),
        ({"text_column": ""}, "text_column must not be empty"),
        ({"label_column": "text"}, "must differ, but got self.text_column='text', self.label_column='text'"),
        ({"dataset_revision": "main"}, "dataset_revision must be empty for the starter"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        DataConfig(**settings)


def test_importing_the_settings_loads_nothing_slow():
    code = (
        "import sys, trainer.data.config, trainer.data.sources;"
        "print([m for m in ('torch','transformers','datasets','pandas','pyarrow','mlflow') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
