"""A version is loaded as MLflow serves it, by our own code, or refused."""

import json
import shutil

import mlflow
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from registry.serving.loading import load_version
from trainer.core.errors import EmotionsError, ModelError

TEXTS = ["so proud of you", "I miss her", ""]


@pytest.fixture
def copy(folders, tmp_path):
    return shutil.copytree(folders[0], tmp_path / "copy")


@pytest.mark.parametrize("params", [{}, {"policy": "fixed", "top_k": 1}, {"return_probabilities": False}])
def test_its_answers_are_those_of_mlflow(folders, tracking_uri, params):
    model, warning = load_version(folders[1].as_uri(), "fp32")
    stock = mlflow.pyfunc.load_model(str(folders[1])).predict(TEXTS, params)

    assert warning == ""
    assert model.predict(TEXTS, params).to_dict() == stock.to_dict()


def test_no_code_of_the_model_runs(copy, tmp_path, tracking_uri):
    for module in copy.rglob("*.py"):
        module.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")

    model, warning = load_version(copy.as_uri(), "fp32")

    assert "no version known here" in warning
    assert len(model.predict(TEXTS)) == len(TEXTS)
    assert not (tmp_path / "ran").exists()


def test_another_loader_is_refused(copy, tracking_uri):
    mlmodel = copy / "MLmodel"
    mlmodel.write_text(mlmodel.read_text().replace("mlflow.pyfunc.loaders.code_model", "mlflow.sklearn"))

    with pytest.raises(ModelError, match=r"mlflow\.sklearn"):
        load_version(copy.as_uri(), "fp32")


def test_weights_that_are_not_finite_are_refused(copy, tracking_uri):
    for weights in copy.rglob("*.safetensors"):
        tensors = {name: np.full_like(values, np.nan) for name, values in load_file(weights).items()}
        weights.unlink()  # a hard link to those of the other tests
        save_file(tensors, weights, {"format": "pt"})

    with pytest.raises(EmotionsError, match="finite"):
        load_version(copy.as_uri(), "fp32")


@pytest.mark.parametrize("damage", ["serving.json", "model.safetensors", "tokenizer.json", "MLmodel"])
def test_damaged_files_are_refused(copy, tracking_uri, damage):
    for path in copy.rglob(damage):
        path.write_bytes(b"{" + path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(ModelError) as raised:
        load_version(copy.as_uri(), "fp32")

    assert len(str(raised.value)) <= 400
    assert "emotions-scratch" not in str(raised.value)  # the folder of the copy that was loaded


def test_a_package_that_serving_json_names_is_not_imported(copy, tracking_uri):
    description = copy / "artifacts" / "serving.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | {"package": "antigravity"}))

    model, _ = load_version(copy.as_uri(), "int8")

    assert len(model.predict(TEXTS)) == len(TEXTS)
