"""Names of metrics: what MLflow takes, and the names of older versions."""

import pytest

from trainer.core import artifacts


@pytest.mark.parametrize("name", ["", "dev//f1", "dev/../f1", "dev/f1(joy)", "a" * 251])
def test_a_name_that_a_server_refuses_is_refused(name):
    with pytest.raises(ValueError, match="metric name"):
        artifacts.check_metric_name(name)


def test_the_final_score_of_an_older_run_is_the_last_value_of_the_series():
    assert artifacts.final_metric("dev/macro_f1") == "dev/final/macro_f1"
    assert artifacts.final_score({"dev/macro_f1": 0.4}, "dev/macro_f1") == 0.4
    assert artifacts.final_score({"dev/macro_f1": 0.4, "dev/final/macro_f1": 0.5}, "dev/macro_f1") == 0.5
    assert artifacts.final_score({"dev/macro_f1": 0.4, "dev/final_macro_f1": 0.6}, "dev/macro_f1") == 0.6
    assert artifacts.final_score({}, "dev/macro_f1") is None
