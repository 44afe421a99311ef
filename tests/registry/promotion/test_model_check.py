"""The check of a saved model: what it measures, and that neither code nor secrets meet in it."""

import json
import os
import shutil
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from registry_helpers import CALIBRATION, make_logits, make_truth

from registry.config import CheckConfig
from registry.promotion import gate, model_check
from registry.promotion.model_check import Judged, check_model
from tests.serving import serving_helpers
from trainer.core.errors import RegistryError
from trainer.evaluation.calibration import Calibration

SECRETS = ("MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "OPTUNA_STORAGE", "HF_TOKEN")
_FOREIGN = """
import json, os, pathlib
import mlflow
import pandas as pd

pathlib.Path({log!r}).write_text(json.dumps(dict(os.environ)))

class Foreign(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str], params=None):
        table = pd.DataFrame({{"grief": 0.4, "joy": 0.75}}, index=range(len(model_input)))
        return table.assign(labels=[["joy"]] * len(model_input))

mlflow.models.set_model(Foreign())
"""


@pytest.fixture(autouse=True)
def secrets(monkeypatch):
    for name in SECRETS:
        monkeypatch.setenv(name, "hunter2")


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """Folder of a model that this project saved, and the answers that its run was judged by."""
    root = tmp_path_factory.mktemp("saved_model")
    classifier = serving_helpers.make_classifier(root)
    folder = serving_helpers.write_model(root / "model", classifier)
    judged = Judged(
        label_names=serving_helpers.NAMES,
        texts=tuple(serving_helpers.TEXTS),
        probabilities=serving_helpers.expected_probabilities(classifier, serving_helpers.TEXTS),
        calibration=serving_helpers.CALIBRATION,
        policy="per_label",
        policies={"fixed": (0.5, 0.5, 0.5), "per_label": tuple(serving_helpers.PER_LABEL)},
    )
    return folder, judged


def failed(check, **settings):
    return [rule.name for rule in gate.check_rules(check, CheckConfig(**settings)) if not rule.passed]


def test_a_model_of_this_project_passes(saved_model, tmp_path):
    folder, judged = saved_model
    check = check_model(str(folder), judged, CheckConfig(check_rows=3), tmp_path)

    assert failed(check) == []
    assert check.examples == 3
    assert check.score_difference < 1e-6
    assert 0 < check.latency_ms_p50 <= check.latency_ms_p95
    assert 0 < check.size_mb < 1
    assert check.foreign_code == ""


def test_changed_code_is_refused_and_does_not_run(saved_model, tmp_path):
    folder, judged = saved_model
    changed = shutil.copytree(folder, tmp_path / "changed")
    proof = tmp_path / "proof"
    with (changed / "pyfunc_model.py").open("a") as code:
        code.write(f"\nPath({str(proof)!r}).touch()\n")
    check = check_model(str(changed), judged, CheckConfig(), tmp_path / "scratch")

    assert failed(check) == ["code"]
    assert not proof.exists()


def test_foreign_code_runs_on_request_and_without_secrets(tmp_path):
    import mlflow.pyfunc

    code, log, folder = tmp_path / "foreign.py", tmp_path / "environment.json", tmp_path / "foreign"
    code.write_text(_FOREIGN.format(log=str(log)))
    mlflow.pyfunc.save_model(folder, python_model=str(code), pip_requirements=["mlflow"])
    log.unlink(missing_ok=True)  # saving a model runs its code
    judged = simple_judged(["grief", "joy"], [[0.4, 0.75]] * 3)

    allowed = CheckConfig(allow_foreign_code=True)
    check = check_model(str(folder), judged, allowed, tmp_path / "scratch")
    assert failed(check, allow_foreign_code=True) == []
    environment = json.loads(log.read_text())
    assert not {name for name in environment if name in SECRETS or name.startswith("MLFLOW_TRACKING")}
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["HF_HUB_OFFLINE"] == "1"


def test_a_process_that_ends_with_an_error_gives_its_last_line(saved_model, tmp_path, monkeypatch):
    stderr = 'Traceback (most recent call last):\n  File "check.py", line 1\nRuntimeError: out of tokens\n'
    monkeypatch.setattr(model_check.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1, stderr=stderr))
    reason = check_model(str(saved_model[0]), saved_model[1], CheckConfig(), tmp_path)
    assert reason == "its process ended with status 1: RuntimeError: out of tokens"


def test_a_model_that_does_not_answer_in_time_is_refused(saved_model, tmp_path, monkeypatch):
    monkeypatch.setattr(model_check, "_LIMIT_SECONDS", 0.2)
    check = check_model(str(saved_model[0]), saved_model[1], CheckConfig(), tmp_path)

    assert failed(check) == ["loads"]
    assert "check_rows" in check


def test_a_model_that_was_deleted_is_an_error_and_no_decision(saved_model, tracking_uri, tmp_path):
    with pytest.raises(RegistryError, match=r"m-0123.*choose another run"):
        check_model("models:/m-0123", saved_model[1], CheckConfig(), tmp_path)


def simple_judged(names, probabilities, policies=None, temperature=1.0):
    return Judged(
        label_names=tuple(names),
        texts=tuple(f"text {number}" for number in range(len(probabilities))),
        probabilities=np.array(probabilities),
        calibration=Calibration(temperature=temperature),
        policy="fixed",
        policies=policies or {"fixed": (0.5,) * len(names)},
    )


class TestMeasurements:
    """From the files that the process writes; no process is started."""

    def check(self, monkeypatch, tmp_path, judged, *, probabilities=None, labels=None, **changes):
        def run(command, **_):
            served = np.asarray(judged.probabilities if probabilities is None else probabilities)
            names = changes.get("label_names", list(judged.label_names))
            predicted = [[n for n, p in zip(names, row, strict=True) if p >= 0.5] for row in served]
            table = pyarrow.table({"probabilities": list(served), "labels": labels or predicted})
            pyarrow.parquet.write_table(table, tmp_path / "scores.parquet")
            result = {
                "label_names": names,
                "default_policy": "fixed",
                "thresholds": {policy: list(values) for policy, values in judged.policies.items()},
                "members": [{**asdict(judged.calibration), "max_length": 8}],
                "load_seconds": 1.0,
                "latency_ms": [1.0, 2.0],
                "size_mb": 1.0,
                "code": {"digest": "ab" * 32, "is_known": True, "requirements": []},
            } | changes
            (tmp_path / "check.json").write_text(json.dumps(result))
            return SimpleNamespace(returncode=0, stderr="")

        (tmp_path / "saved").mkdir()
        monkeypatch.setattr(model_check.subprocess, "run", run)
        return check_model(str(tmp_path / "saved"), judged, CheckConfig(check_rows=0), tmp_path)

    @pytest.mark.parametrize(
        ("changes", "failing", "words"),
        [
            ({}, [], []),
            ({"members": [{"temperature": 1.6}]}, ["served as judged"], ["calibration"]),
            ({"members": [{"temperature": 1.0, "bias": 0.1}]}, ["served as judged"], ["calibration"]),
            ({"thresholds": {"fixed": [0.5, 0.6]}}, ["served as judged"], ["thresholds of fixed"]),
            ({"thresholds": {}}, ["served as judged"], ["thresholds of fixed"]),
            ({"default_policy": "global"}, ["served as judged"], ["default policy"]),
            ({"labels": [["a"], [], ["b"]]}, ["served as judged"], ["1 labels of 3"]),
            ({"probabilities": [[0.9, 0.1], [0.2, 0.1], [0.1, 0.801]]}, ["probabilities"], []),
            ({"code": {"digest": "", "is_known": False, "requirements": []}}, ["code"], ["unknown"]),
            ({"code": {"digest": "ab", "is_known": True, "requirements": ["evil"]}}, ["code"], ["evil"]),
            ({"label_names": ["a", "c"]}, ["loads"], ["b, c"]),
        ],
    )
    def test_a_difference_from_the_run_fails_its_rule(self, monkeypatch, tmp_path, changes, failing, words):
        judged = simple_judged(["a", "b"], [[0.9, 0.1], [0.6, 0.1], [0.1, 0.8]])
        if changes.get("probabilities"):
            judged = simple_judged(["a", "b"], [[0.9, 0.1], [0.2, 0.1], [0.1, 0.8]])
        if changes.get("labels"):
            judged = simple_judged(["a", "b"], [[0.9, 0.1], [0.2, 0.1], [0.6, 0.8]])
        check = self.check(monkeypatch, tmp_path, judged, **changes)

        assert failed(check) == failing
        text = " ".join(rule.value for rule in gate.check_rules(check, CheckConfig()))
        assert all(word in text for word in words)

    def test_labels_are_compared_by_name_and_ties_with_a_threshold_are_left_out(self, monkeypatch, tmp_path):
        judged = simple_judged(["a", "b"], [[0.50000001, 0.1]])
        check = self.check(
            monkeypatch, tmp_path, judged, label_names=["b", "a"], probabilities=[[0.1, 0.49999999]], labels=[[]]
        )
        assert failed(check) == []

    def test_check_rows_are_spread_over_test(self, monkeypatch, tmp_path):
        truth = make_truth(rows=1000)
        probabilities = CALIBRATION.probabilities(make_logits(truth, 0.9))
        judged = simple_judged(["x", "y", "z"], probabilities)
        monkeypatch.setattr(model_check, "_run_child", lambda *_: "stopped")
        (tmp_path / "saved").mkdir()
        check_model(str(tmp_path / "saved"), judged, CheckConfig(), tmp_path)
        texts = json.loads((tmp_path / "texts.json").read_text())

        assert len(texts) == 256
        assert (texts[0], texts[-1]) == ("text 0", "text 999")
