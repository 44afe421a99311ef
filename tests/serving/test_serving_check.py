"""The check of a saved model: its scores are the served ones, and none of the model's own code runs."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pyarrow.parquet
import pytest
from serving_helpers import CALIBRATION, MAX_LENGTH, NAMES, PER_LABEL, TEXTS

from trainer.core import artifacts
from trainer.evaluation.calibration import Calibration
from trainer.serving import check, runtime
from trainer.serving.scoring import read_serving


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the model that the test may change."""
    return shutil.copytree(folder, tmp_path / "model")


def run(model, tmp_path):
    """Facts and scores of a check."""
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    words = ("--model", model, "--texts", tmp_path / "texts.json", "--output", tmp_path / "out", "--single_texts", "2")
    assert check.main(list(map(str, words))) == 0
    table = pyarrow.parquet.read_table(tmp_path / "out" / artifacts.CHECK_SCORES)
    return json.loads((tmp_path / "out" / artifacts.CHECK_RESULT).read_text()), table.to_pydict()


def digest(model):
    return runtime.code_digest(model)


def test_scores_thresholds_and_labels_are_the_served_ones(folder, model, tmp_path):
    facts, table = run(folder, tmp_path)
    served = model.predict(TEXTS)
    np.testing.assert_array_equal(np.array(table["probabilities"]), served[list(NAMES)].to_numpy())
    assert table["labels"] == served["labels"].tolist()
    assert facts["label_names"] == list(NAMES)
    assert (facts["default_policy"], facts["thresholds"]["per_label"]) == ("per_label", PER_LABEL.tolist())
    assert facts["members"] == [asdict(CALIBRATION) | {"max_length": MAX_LENGTH}]
    assert (facts["texts"], len(facts["latency_ms"])) == (len(TEXTS), 2)
    assert facts["code"] == {"digest": digest(folder), "is_known": True, "requirements": []}


def test_code_of_the_model_does_not_run_and_is_reported(copy, tmp_path):
    for file in [copy / "pyfunc_model.py", *copy.glob("code/**/*.py")]:
        file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    facts, _ = run(copy, tmp_path)
    assert not (tmp_path / "ran").exists()
    assert not facts["code"]["is_known"]


@pytest.mark.parametrize("name", ["code/more.py", "more.pkl", "artifacts/more.bin", "artifacts/classifier/hook.py"])
def test_a_file_more_changes_the_digest(copy, name):
    before = digest(copy)
    (copy / name).write_text("")
    assert digest(copy) != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("MLmodel", "mlflow.pyfunc.loaders.code_model", "mlflow.sklearn"),
        ("MLmodel", "    loader_module:", "    python_model: model.pkl\n    loader_module:"),
        ("artifacts/serving.json", '"emotions_', '"other_'),
    ],
)
def test_another_way_of_loading_changes_the_digest(copy, name, old, new):
    before = digest(copy)
    text = (copy / name).read_text()
    assert old in text
    (copy / name).write_text(text.replace(old, new))
    assert digest(copy) != before


def test_the_cache_of_python_does_not_change_the_digest(copy):
    before = digest(copy)
    cache = copy / "code" / "__pycache__"
    cache.mkdir()
    (cache / "more.pyc").write_bytes(b"")
    assert digest(copy) == before


def test_requirements_that_are_not_pinned_packages_of_a_model_are_reported(copy, tmp_path):
    with (copy / "requirements.txt").open("a") as file:
        file.write("\nnumpy\nevil==1.0\n-e git+https://example.org/x\n")
    assert run(copy, tmp_path)[0]["code"]["requirements"] == ["numpy", "evil==1.0", "-e git+https://example.org/x"]


@pytest.mark.parametrize("folder_name", ["../classifier", "/etc", ".."])
def test_a_member_outside_the_model_is_refused(copy, tmp_path, capsys, folder_name):
    path = copy / "artifacts" / "serving.json"
    content = json.loads(path.read_text())
    content["members"][0]["folder"] = folder_name
    path.write_text(json.dumps(content))
    (tmp_path / "texts.json").write_text("[]")
    words = ["--model", str(copy), "--texts", str(tmp_path / "texts.json"), "--output", str(tmp_path / "out")]
    assert check.main(words) == 1
    assert folder_name in capsys.readouterr().err


def test_the_description_of_an_older_version_is_read(tmp_path):
    older = {"package": "emotions_c03d15eb1e2c", "temperature": 0.9, "max_length": 64}
    older |= {"thresholds": {"fixed": [0.5, 0.5]}, "default_policy": "fixed"}
    (tmp_path / "serving.json").write_text(json.dumps(older))
    (member,) = read_serving(tmp_path).members
    assert (member.classifier, member.max_length) == (tmp_path / "classifier", 64)
    assert member.calibration == Calibration(temperature=0.9, bias=0.0)


def test_code_that_an_older_version_saved_is_known(root, tmp_path):
    """The kept model is whole but for weights and vocabulary."""
    shutil.unpack_archive(root / "tests" / "kept" / "model-8e3e5c1.zip", tmp_path)
    assert runtime.is_known_code(digest(tmp_path), own="")
    assert runtime.foreign_requirements(tmp_path) == []
    assert read_serving(tmp_path / "artifacts").default_policy == "per_label"
