"""Batch scoring with a real model, from a folder and from the registry: versions, aliases and equal numbers."""

import json
import pickle
import re
import shutil
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file

from registry import predict
from registry.scoring import scorer
from registry.scoring.config import LabelChoice
from trainer.core.errors import RegistryError, SettingsError
from trainer.evaluation.calibration import Calibration
from trainer.model import saving
from trainer.model.classifier import EmotionClassifier
from trainer.model.config import ModelConfig
from trainer.model.encoder import load_encoder
from trainer.serving import packaging
from trainer.serving.scoring import Member
from trainer.tracking.model_address import resolve

NAMES = ("joy", "grief", "surprise (good)")
TEXTS = ["so proud of you", "I miss her", "it rains", "what " * 300, "thanks a lot, friend!", "no way", "fine"]


def save(folder, temperature):
    encoder, tokenizer = load_encoder(ModelConfig())
    torch.manual_seed(0)
    model = EmotionClassifier(encoder, len(NAMES), pooling="mean", dropout=0.1)
    torch.nn.init.normal_(model.head.weight, std=0.2)
    saving.save(model, tokenizer, folder / "classifier", NAMES, {})
    packaging.save_model(
        folder / "model",
        [Member(classifier=folder / "classifier", calibration=Calibration(temperature=temperature), max_length=32)],
        thresholds={"fixed": np.full(3, 0.5), "per_label": np.array([0.2, 0.9, 0.5])},
        default_policy="per_label",
    )
    return folder / "model"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two saved models that answer differently."""
    return [save(tmp_path_factory.mktemp(f"version{i}"), temperature) for i, temperature in enumerate((1.7, 3.0))]


@pytest.fixture
def registry(tracking_uri, folders):
    """Both as versions 1 and 2 of `emotions`, the first one the champion."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri)
    client.create_registered_model("emotions")
    for folder in folders:
        client.create_model_version("emotions", str(folder))
    client.set_registered_model_alias("emotions", "champion", "1")
    return client


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("\n".join(TEXTS))
    return path


def expected(folder):
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(folder)).predict(TEXTS)


def score(texts, model, **settings):
    """Probabilities and labels that the command writes."""
    flags = [f"--{name}={value}" for name, value in {"model": model, **settings}.items()]
    target = texts.with_name("out.parquet")
    assert predict.main([f"--input={texts}", f"--output={target}", "--overwrite=true", *flags]) == 0
    columns = pq.read_table(target).to_pydict()
    return np.array([columns[f"probability_{name}"] for name in NAMES]).T, columns["predicted_labels"]


def test_numbers_are_those_of_the_model_on_all_rows_together(folders, texts, capsys):
    probabilities, labels = score(texts, folders[0], chunk_rows=2)
    table = expected(folders[0])
    np.testing.assert_allclose(probabilities, table[list(NAMES)].to_numpy(), atol=1e-6)
    assert labels == table["labels"].tolist()
    _, labels = score(texts, folders[0], threshold=0, top_k=2)
    assert all(len(row) == 2 for row in labels)


def test_an_alias_is_its_version(registry, folders, texts, capsys):
    for model, folder in [("@champion", folders[0]), ("/2", folders[1]), ("/latest", folders[1])]:
        probabilities, _ = score(texts, f"models:/emotions{model}")
        np.testing.assert_allclose(probabilities, expected(folder)[list(NAMES)].to_numpy(), atol=1e-6)
    assert "Model: models:/emotions/1, 3 labels" in capsys.readouterr().out


def test_an_alias_that_moves_meanwhile_does_not_change_the_job(registry, folders, texts, monkeypatch, capsys):
    plain = scorer.Scorer.score

    def score_and_move(*args):
        registry.set_registered_model_alias("emotions", "champion", "2")
        return plain(*args)

    monkeypatch.setattr(scorer.Scorer, "score", score_and_move)
    probabilities, _ = score(texts, "models:/emotions@champion", chunk_rows=2)
    np.testing.assert_allclose(probabilities, expected(folders[0])[list(NAMES)].to_numpy(), atol=1e-6)


def test_a_model_of_a_run(tracking_uri, folders, texts, capsys):
    import mlflow

    client = mlflow.MlflowClient(tracking_uri)
    run = client.create_run("0")
    client.log_artifacts(run.info.run_id, str(folders[1]), "model")
    probabilities, _ = score(texts, f"runs:/{run.info.run_id}/model")
    np.testing.assert_allclose(probabilities, expected(folders[1])[list(NAMES)].to_numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("model", "rules"),
    [
        ("models:/emotion@champion", ["`emotion`", "Did you mean `emotions`?", "Registered: emotions"]),
        ("models:/emotions@best", ["models:/emotions@best", "Newest versions: 1, 2; aliases: @champion (version 1)"]),
        ("models:/emotions/7", ["Newest versions: 1, 2; aliases: @champion (version 1)"]),
        ("models:/emotions/Production", ["Newest versions: 1, 2; aliases: @champion (version 1)"]),
        ("models:/emotions", ["`model` must be models:/NAME@ALIAS or models:/NAME/VERSION"]),
        ("runs:/0123/model", ["Cannot download model runs:/0123/model"]),
        ("nowhere", ["`model` must be", "nowhere"]),
        ("x" * 300, ["`model` must be"]),
        ("http://127.0.0.1:9/model", ["`model` must be", "http://127.0.0.1:9/model"]),
        ("models:/emotions-ledger@champion", ["Registered: emotions."]),
    ],
)
def test_a_model_that_is_not_there(registry, texts, model, rules, capsys):
    target = texts.with_name("out.csv")
    assert predict.main([f"--input={texts}", f"--output={target}", f"--model={model}"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("error: ")
    assert [rule for rule in rules if rule not in said] == []
    assert len(said) <= 320
    assert not target.exists()


def test_a_package_of_an_artifact_store_is_missing(registry, texts, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "boto3", None)

    assert predict.main([f"--input={texts}", "--output=out.csv", "--model=s3://bucket/model"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "Cannot download model s3://bucket/model" in said
    assert "pip install boto3" in said


def test_nothing_is_registered_yet(tracking_uri):
    import mlflow

    with pytest.raises(RegistryError, match="Registered: none"):
        resolve(mlflow.MlflowClient(tracking_uri), "models:/emotions@champion")


def test_a_model_whose_files_were_moved(registry, folders, texts, tmp_path, capsys):
    copy = shutil.copytree(folders[0], tmp_path / "stored")
    registry.create_model_version("emotions", str(copy))
    copy.rename(tmp_path / "moved")
    assert (
        predict.main([f"--input={texts}", f"--output={texts.with_name('out.csv')}", "--model=models:/emotions/3"]) == 1
    )
    assert "Cannot find the files of model models:/emotions/3" in " ".join(capsys.readouterr().err.split())


def test_a_server_that_is_away(texts, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert predict.main([f"--input={texts}", f"--output={texts.with_name('out.csv')}"]) == 1
    assert "http://127.0.0.1:9" in capsys.readouterr().err


def test_the_policy_is_checked_before_the_model_is_loaded(folders, tmp_path):
    copy = shutil.copytree(folders[0], tmp_path / "model")
    (copy / "artifacts/classifier/head.safetensors").unlink()
    message = "`policy` must be one of fixed, per_label, got per_labl. Did you mean `per_label`?"
    choice = LabelChoice(policy="per_labl")
    with pytest.raises(SettingsError, match=re.escape(message)), scorer.open_scorer(str(copy), choice):
        pass


ENCODER = "artifacts/classifier/encoder"


def unpickled(copy, proof):
    """The weights as a pickle, which an index names."""
    encoder = copy / ENCODER
    torch.save(load_file(encoder / "model.safetensors"), encoder / "weights.bin")
    names = list(load_file(encoder / "model.safetensors"))
    (encoder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "weights.bin")}
    (encoder / "model.safetensors.index.json").write_text(json.dumps(index))


def with_own_loader(copy, proof):
    text = (copy / "MLmodel").read_text().replace("mlflow.pyfunc.loaders.code_model", "evil")
    (copy / "MLmodel").write_text(text)
    (copy / "code" / "evil.py").write_text(f"open({str(proof)!r}, 'w')\ndef _load_pyfunc(*_): ...\n")


def pickled(copy, proof):
    flavors = {"python_function": {"loader_module": "mlflow.sklearn", "model_path": "model.pkl"}}
    (copy / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors}))
    (copy / "model.pkl").write_bytes(pickle.dumps(Touch(proof)))


class Touch:
    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return open, (str(self.proof), "w")


def rewritten(name, content):
    return lambda copy, proof: (copy / name).write_bytes(content)


def changed_json(name, **values):
    def change(copy, proof):
        (copy / name).write_text(json.dumps(json.loads((copy / name).read_text()) | values))

    return change


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (unpickled, "weights.bin"),
        (with_own_loader, "the loader evil"),
        (pickled, "the loader mlflow.sklearn"),
        (rewritten("MLmodel", b"flavors: ["), "MLmodel"),
        (rewritten("artifacts/serving.json", b"[]"), "serving.json"),
        (changed_json("artifacts/serving.json", members=[]), "serving.json"),
        (changed_json("artifacts/serving.json", prior=[0.1, 0.2, 0.7]), "unknown entry prior"),
        (changed_json("artifacts/serving.json", default_policy="best"), "serving.json"),
        (changed_json("artifacts/serving.json", thresholds={"per_label": [0.5]}), "one threshold per label"),
        (rewritten(f"{ENCODER}/model.safetensors", b"junk"), "SafetensorError"),
        (rewritten(f"{ENCODER}/tokenizer_config.json", b"[]"), "damaged"),
        (rewritten("artifacts/classifier/classifier.json", b"[]"), "damaged"),
        (changed_json("artifacts/classifier/classifier.json", label_names=[1, 2, 3]), "damaged"),
        (changed_json("artifacts/classifier/classifier.json", pooling=3), "damaged"),
        (changed_json(f"{ENCODER}/config.json", model_type="nope"), "transformers"),
    ],
)
def test_a_foreign_or_damaged_model_is_one_short_error_and_runs_nothing(folders, tmp_path, change, rule, texts, capsys):
    copy, proof = shutil.copytree(folders[0], tmp_path / "model"), tmp_path / "proof"
    change(copy, proof)
    assert predict.main([f"--input={texts}", f"--output={texts.with_name('out.csv')}", f"--model={copy}"]) == 1
    said = capsys.readouterr().err
    assert rule in " ".join(said.split())
    assert said.startswith("error: ")
    assert len(said.replace(str(copy), "")) < 300
    assert not proof.exists()


def test_changed_code_does_not_run_and_is_named(folders, tmp_path, texts, monkeypatch, capsys):
    copy, proof = shutil.copytree(folders[0], tmp_path / "model"), tmp_path / "proof"
    for file in [copy / "pyfunc_model.py", *copy.glob("code/**/*.py")]:
        file.write_text(f"open({str(proof)!r}, 'w')\n")
    monkeypatch.setenv("MLFLOW_ALLOW_MODEL_CODE_EXECUTION", "false")
    probabilities, _ = score(texts, copy)
    np.testing.assert_allclose(probabilities, expected(folders[0])[list(NAMES)].to_numpy(), atol=1e-6)
    assert "is of no version known here" in " ".join(capsys.readouterr().err.split())
    assert not proof.exists()


def test_a_scorer_needs_no_files(folders):
    with scorer.open_scorer(str(folders[0]), LabelChoice(top_k=1)) as opened:
        prediction = opened.score(TEXTS)
        assert opened.score([]).probabilities.shape == (0, 3)
    table = expected(folders[0])
    np.testing.assert_allclose(prediction.probabilities, table[list(NAMES)].to_numpy(), atol=1e-6)
    assert prediction.labels == [labels[:1] for labels in table["labels"]]


def test_the_run_of_the_project_gets_the_version_and_the_counts(registry, texts, monkeypatch, capsys):
    run = registry.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    score(texts, "models:/emotions@champion")
    data = registry.get_run(run).data
    assert data.params["scored_with"] == "models:/emotions/1"
    assert (data.metrics["predict/rows"], data.metrics["predict/rejected_rows"]) == (7, 0)
    assert data.metrics["predict/seconds"] > 0
    assert registry.get_run(run).info.run_name == "predict emotions/1"
    assert data.tags["mlflow.note.content"].startswith("Scored 7 of 7 rows of ")


def test_the_run_of_the_project_says_why_the_job_failed(registry, texts, monkeypatch, capsys):
    run = registry.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    assert predict.main(["--input", str(texts), "--output", str(texts.parent / "no" / "out.parquet")]) == 1
    assert "`output`" in registry.get_run(run).data.tags["error"]


def test_a_folder_needs_no_server_and_only_the_output_is_written(folders, texts, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123")
    score(texts, folders[0])
    assert sorted(path.name for path in texts.parent.glob("*t*")) == ["in.txt", "out.parquet"]
    assert "Cannot log" in capsys.readouterr().err
