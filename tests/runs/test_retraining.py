"""The finished run that a retraining takes calibration and thresholds from."""

import json

import numpy as np
import pytest

from trainer.core import artifacts, text_files
from trainer.core.errors import SettingsError
from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.calibration import Calibration
from trainer.evaluation.calibration_fit import CalibrationChoice
from trainer.evaluation.evaluation import evaluate_dev
from trainer.evaluation.thresholds import POLICIES
from trainer.runs import results
from trainer.runs.retraining import load_source_run

NAMES = ("joy", "grief")
SETTINGS = {
    "dataset": "moods",
    "loss": "asl",
    "threshold_policy": "auto",
    "seed": 1,
    "retrain_from": "",
    "register": True,
}
DIGESTS = {"train": "a", "dev": "b", "test": "c"}
SCORES = {"dev/macro_f1": 0.5, artifacts.BEST_STEP: 6, artifacts.SCHEDULE_STEPS: 8}


@pytest.fixture(scope="module")
def conclusion():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, size=(40, 2)).astype(np.float32)
    logits = (rng.normal(size=(40, 2)) + 2 * labels).astype(np.float32)
    observed = np.ones((40, 2), dtype=bool)
    dev = LabelledScores(label_names=NAMES, scores=logits, labels=labels, observed=observed, kind="logits")
    return evaluate_dev(dev, calibration="platt", policy="global", folds=5, seed=0), dev


@pytest.fixture
def folder(tmp_path, conclusion):
    folder = tmp_path / "first"
    results.write_tables(folder, *conclusion)
    for name, content in (
        (artifacts.CONFIG, SETTINGS),
        (artifacts.DATA, DIGESTS),
        (artifacts.OUTCOME, SCORES),
    ):
        text_files.write_json(folder / name, content)
    return folder


def find(folder, **changes):
    return load_source_run(folder.parent, "first", SETTINGS | {"retrain_from": "first"} | changes, {})


def test_its_calibration_and_thresholds_are_loaded(folder, conclusion):
    whole, _ = conclusion
    found = find(folder, seed=2, register=False)
    assert (found.run_id, found.stop_fraction) == ("first", 0.75)
    choices = found.evaluation
    assert (choices.label_names, choices.policy, choices.calibration_choice) == (
        NAMES,
        "global",
        whole.calibration_choice,
    )
    assert set(choices.thresholds) == set(POLICIES)
    for policy, values in choices.thresholds.items():
        np.testing.assert_array_equal(values, whole.thresholds[policy])
    assert choices.origin == "first"
    assert set(choices.metrics()) == {"calibration/temperature", "calibration/bias"}


def test_files_written_again_name_the_source_run(folder, tmp_path):
    choices = find(folder).evaluation
    results.write_tables(tmp_path / "second", choices, None)
    again = json.loads((tmp_path / "second" / artifacts.THRESHOLDS).read_text())
    assert again == json.loads((folder / artifacts.THRESHOLDS).read_text()) | {"of_run": "first"}
    assert json.loads((tmp_path / "second" / artifacts.CALIBRATION).read_text())["of_run"] == "first"
    assert results.table_names(tmp_path / "second") == [artifacts.PER_LABEL]


def test_a_run_of_an_older_version_that_knew_fewer_policies_is_read(folder):
    path = folder / artifacts.THRESHOLDS
    written = json.loads(path.read_text())
    del written["policies"]["per_label"], written["crossfitted_macro_f1"]["per_label"], written["optimism"]["per_label"]
    text_files.write_json(path, written)
    choices = find(folder).evaluation
    assert set(choices.thresholds) == set(POLICIES) - {"per_label"}
    assert choices.policy == "global"


@pytest.mark.parametrize(("name", "value"), [("model", "other"), ("loss", "bce"), ("threshold_policy", "fixed")])
def test_other_settings_are_refused(folder, name, value):
    with pytest.raises(SettingsError, match=f"run first .*{name}: .* then, {value} now"):
        find(folder, **{name: value})


def test_other_data_are_refused(folder):
    found = find(folder)
    found.check_data(NAMES, DIGESTS)
    with pytest.raises(SettingsError, match=r"first, .* examples in dev\."):
        found.check_data(NAMES, DIGESTS | {"dev": "x"})
    with pytest.raises(SettingsError, match=r"first, .* labels"):
        found.check_data(("joy", "love"), DIGESTS)


def test_a_run_that_is_absent_or_not_finished_is_refused(folder):
    with pytest.raises(SettingsError, match=r"`retrain_from` .* second"):
        load_source_run(folder.parent, "second", SETTINGS, {})
    (folder / artifacts.OUTCOME).unlink()
    with pytest.raises(SettingsError, match=r"`retrain_from` .* first"):
        find(folder)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (artifacts.OUTCOME, {"test/macro_f1": 0.5}, "dev/best_step is missing"),
        (artifacts.THRESHOLDS, {}, "default_policy is missing"),
        (artifacts.LABELS, ["joy", "love"], "love is missing"),
        (artifacts.CALIBRATION, [], "list indices"),
        (artifacts.DATA, None, "data.json .* No such file"),
        (artifacts.CONFIG, None, "config.json .* No such file"),
    ],
)
def test_a_run_without_its_results_is_refused(folder, name, content, reason):
    if content is None:
        (folder / name).unlink()
    else:
        text_files.write_json(folder / name, content)
    with pytest.raises(SettingsError, match=f"`retrain_from` .*first .*{reason}"):
        find(folder)


def test_a_run_of_an_older_version_has_a_temperature_alone(folder):
    text_files.write_json(folder / artifacts.CALIBRATION, {"method": "temperature", "temperature": 0.75})
    choice = find(folder).evaluation.calibration_choice
    assert choice == CalibrationChoice(method="temperature", calibration=Calibration(temperature=0.75, bias=0.0))
