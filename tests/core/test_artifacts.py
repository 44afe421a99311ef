"""Names of metrics: what MLflow takes, and what is refused before training."""

import pytest

from trainer.core import artifacts
from trainer.core.errors import DataError


@pytest.mark.parametrize("label", ["a" * 242, "joy (very)", "(" * 48, "愛", "a/b"])
def test_the_metric_of_an_accepted_label_is_accepted(label):
    artifacts.check_label_names(["joy", label])
    artifacts.check_metric_name(artifacts.label_metric("test", "f1", label))


@pytest.mark.parametrize("label", ["a" * 243, "(" * 55, ""])
def test_a_label_that_makes_no_metric_name_is_refused(label):
    with pytest.raises(DataError, match="250"):
        artifacts.check_label_names(["joy", label])


def test_labels_never_share_a_metric():
    names = {artifacts.label_metric("dev", "f1", label) for label in ("joy(1)", "joy[1]", "joy 1", ".", "..", "joy/1")}
    assert len(names) == 6
    for name in names:
        artifacts.check_metric_name(name)


@pytest.mark.parametrize("name", ["", "dev//f1", "dev/../f1", "dev/f1(joy)", "a" * 251])
def test_a_name_that_a_server_refuses_is_refused(name):
    with pytest.raises(ValueError, match="metric name"):
        artifacts.check_metric_name(name)


def test_the_final_score_of_an_older_run_is_the_last_value_of_the_series():
    assert artifacts.final_metric("dev/macro_f1") == "dev/final_macro_f1"
    assert artifacts.final_score({"dev/macro_f1": 0.4}, "dev/macro_f1") == 0.4
    assert artifacts.final_score({"dev/macro_f1": 0.4, "dev/final_macro_f1": 0.5}, "dev/macro_f1") == 0.5
    assert artifacts.final_score({}, "dev/macro_f1") is None
