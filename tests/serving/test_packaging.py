"""The saved model as a folder: its files, its independence of this repository, several members, and refusals."""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from serving_helpers import MAX_LENGTH, NAMES, TEXTS, load, write_model

from trainer.core.errors import ModelError
from trainer.evaluation.calibration import IDENTITY, Calibration
from trainer.serving import packaging, runtime
from trainer.serving.scoring import Member

_LOAD_ELSEWHERE = """
import json, sys
import mlflow.pyfunc
table = mlflow.pyfunc.load_model(sys.argv[1]).predict(json.loads(sys.argv[2]))
assert "trainer" not in sys.modules and "registry" not in sys.modules
print(table.to_json(orient="records", double_precision=15))
"""


class TestFolder:
    def test_it_holds_no_pickle_and_only_the_code_it_needs(self, folder):
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert {path.rsplit(".", 1)[-1] for path in files} == {"py", "json", "safetensors", "yaml", "txt", "MLmodel"}
        code = {path.split("/", 2)[2] for path in files if path.startswith("code/")}
        listed = {f"{name.replace('.', '/')}.py" for name in runtime.MODULES}
        assert {path for path in code if not path.endswith("__init__.py")} == {
            path for path in listed if not path.endswith("__init__.py")
        }

    def test_it_loads_and_answers_with_nothing_else_there(self, folder, model, tmp_path):
        environment = {
            **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        }
        command = [sys.executable, "-I", "-c", _LOAD_ELSEWHERE, str(folder), json.dumps(TEXTS)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        rows = json.loads(done.stdout.splitlines()[-1])
        ours = model.predict(TEXTS)
        assert [row["labels"] for row in rows] == ours["labels"].tolist()
        np.testing.assert_allclose([row["joy"] for row in rows], ours["joy"], atol=1e-6)

    def test_saved_models_of_other_code_and_facts_load_in_one_process(self, classifier, model, monkeypatch, tmp_path):
        monkeypatch.setattr(runtime, "MODULES", (*runtime.MODULES, "model.class_weights"))
        other = load(write_model(tmp_path / "other", classifier, calibration=Calibration(temperature=1e-3)))
        modules = {type(served.unwrap_python_model().scorer).__module__ for served in (model, other)}
        assert len(modules) == 2
        assert all(name.startswith("emotions_") for name in modules)
        assert not np.allclose(model.predict(TEXTS)["joy"], other.predict(TEXTS)["joy"])

    def test_what_a_killed_process_leaves_is_in_a_folder_that_the_next_one_removes(
        self, classifier, monkeypatch, tmp_path
    ):
        make, made = tempfile.mkdtemp, []
        monkeypatch.setattr(tempfile, "mkdtemp", lambda *parts, **more: made.append(make(*parts, **more)) or made[-1])
        write_model(tmp_path / "model", classifier)
        assert len(made) > 1  # ours, and MLflow's
        assert all("emotions-scratch-" in folder for folder in made)

    def test_its_signature_names_the_outputs_and_parameters(self, model):
        signature = model.metadata.signature
        assert signature.outputs.input_names() == [*NAMES, "labels"]
        assert {param.name: param.default for param in signature.params} == {
            "policy": "per_label",
            "threshold": None,
            "top_k": 0,
            "return_probabilities": True,
        }

    def test_its_example_works(self, folder, model):
        from mlflow.models import Model

        example = Model.load(str(folder)).load_input_example(str(folder))
        assert list(example.columns) == ["text"]
        assert len(model.predict(example)) == len(example)

    def test_its_requirements_are_the_pins_of_the_project(self, folder, root):
        wanted = (folder / "requirements.txt").read_text().split()
        assert wanted == packaging.served_requirements(root / "conda.yaml")
        assert [line.split("==")[0] for line in wanted] == list(runtime.SERVED_PACKAGES)
        assert {"tokenizers", "transformers"} < set(runtime.SERVED_PACKAGES)

    @pytest.mark.parametrize(
        ("body", "rows"),
        [
            ({"inputs": TEXTS}, 5),
            ({"instances": TEXTS}, 5),
            ({"inputs": [{"text": "so"}, {"text": "her"}]}, 2),
            ({"dataframe_records": [{"text": "so proud", "id": 3}]}, 1),
            ({"dataframe_records": []}, 0),
            ({"dataframe_split": {"columns": ["text"], "data": [["so"], ["her"]]}, "params": {"top_k": 1}}, 2),
        ],
    )
    def test_mlflows_server_takes_every_form(self, model, body, rows):
        from mlflow.pyfunc.scoring_server import invocations

        answer = invocations(json.dumps(body), "application/json", model, model.metadata.get_input_schema())
        predictions = json.loads(answer.response)["predictions"]
        assert len(predictions) == rows
        assert all(set(row) == {*NAMES, "labels"} for row in predictions)


class TestMembers:
    def test_probabilities_are_the_mean_over_the_members(self, classifier, model, tmp_path):
        members = [
            Member(classifier=classifier, calibration=Calibration(temperature=value), max_length=MAX_LENGTH)
            for value in (0.5, 3.0)
        ]
        both = load(write_model(tmp_path / "both", classifier, members=members)).predict(TEXTS)
        alone = [
            load(write_model(tmp_path / f"{number}", classifier, members=[member])).predict(TEXTS)
            for number, member in enumerate(members)
        ]
        for name in NAMES:
            np.testing.assert_allclose(both[name], (alone[0][name] + alone[1][name]) / 2, rtol=1e-12)

    def test_members_with_other_labels_are_refused(self, classifier, tmp_path):
        other = shutil.copytree(classifier, tmp_path / "other")
        content = json.loads((other / "classifier.json").read_text())
        (other / "classifier.json").write_text(json.dumps({**content, "label_names": ["a", "b", "c"]}))
        members = [Member(classifier=path, calibration=IDENTITY, max_length=MAX_LENGTH) for path in (classifier, other)]
        with pytest.raises(ModelError, match="same labels"):
            write_model(tmp_path / "model", classifier, members=members)

    def test_weights_are_stored_once(self, classifier, folder):
        for weights in classifier.rglob("*.safetensors"):
            assert (folder / "artifacts" / "classifier" / weights.relative_to(classifier)).samefile(weights)


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "rule"),
        [
            ({"default_policy": "best"}, "`default_policy` must be one of fixed, per_label, got best"),
            ({"thresholds": {"per_label": np.full(2, 0.5)}}, "`thresholds` must have 3 numbers .* policy per_label"),
            ({"thresholds": {"per_label": np.array([0.5, np.nan, 0.5])}}, "`thresholds` must have 3 numbers"),
            ({"members": []}, "at least one member"),
        ],
    )
    def test_facts_that_do_not_fit(self, classifier, tmp_path, changes, rule):
        with pytest.raises(ModelError, match=rule):
            write_model(tmp_path / "model", classifier, **changes)
        assert not (tmp_path / "model").exists()

    def test_no_classifier(self, tmp_path):
        with pytest.raises(ModelError, match=r"classifier\.json"):
            write_model(tmp_path / "model", tmp_path)

    def test_a_label_named_like_a_column(self, classifier, tmp_path):
        path = tmp_path / "classifier.json"
        content = json.loads((classifier / "classifier.json").read_text())
        path.write_text(json.dumps({**content, "label_names": ["joy", "labels", "grief"]}))
        with pytest.raises(ModelError, match="got labels"):
            write_model(tmp_path / "model", tmp_path)

    def test_unpinned_requirements(self, tmp_path):
        path = tmp_path / "conda.yaml"
        path.write_text("dependencies:\n  - python=3.11\n  - pip:\n      - mlflow==3.17.2\n      - torch>=2\n")
        with pytest.raises(ModelError, match="no pin for torch, transformers"):
            packaging.served_requirements(path)
        with pytest.raises(ModelError, match=r"none\.yaml"):
            packaging.served_requirements(tmp_path / "none.yaml")
