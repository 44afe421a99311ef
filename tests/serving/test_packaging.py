"""The bundle as a folder: what stands in it, that it needs nothing else, and what is refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from served_parts import NAMES, TEXTS, load, write_bundle

from trainer.core.errors import ModelError
from trainer.model import saving
from trainer.serving import packaging

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
        assert {"core/calibration.py", "core/errors.py", "model/encoder.py", "model/saving.py"} <= code
        assert {path for path in code if path.startswith("data/")} == {
            f"data/{n}.py" for n in ("__init__", "batches", "tokens")
        }
        assert not [path for path in code if path.startswith("fit/")]
        assert "model/losses.py" not in code
        assert "import trainer" not in "".join(path.read_text() for path in folder.glob("code/**/*.py"))

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

    def test_bundles_of_other_code_and_facts_live_side_by_side(self, classifier, model, monkeypatch, tmp_path):
        plain = packaging._closure
        monkeypatch.setattr(packaging, "_closure", lambda names: plain([*names, "trainer.model.class_weights"]))
        other = load(write_bundle(tmp_path / "other", classifier, temperature=1e-3))
        packages = {served.unwrap_python_model().serving["package"] for served in (model, other)}
        assert len(packages) == 2
        assert saving.__name__ == "trainer.model.saving"
        assert not np.allclose(model.predict(TEXTS)["joy"], other.predict(TEXTS)["joy"])

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
        assert [line.split("==")[0] for line in wanted] == list(packaging.SERVED_PACKAGES)

    @pytest.mark.parametrize(
        ("body", "rows"),
        [
            ({"inputs": TEXTS}, 5),
            ({"instances": TEXTS}, 5),
            ({"dataframe_records": [{"text": "so proud", "id": 3}]}, 1),
            ({"dataframe_split": {"columns": ["text"], "data": [["so"], ["her"]]}, "params": {"top_k": 1}}, 2),
        ],
    )
    def test_mlflows_server_takes_every_form(self, model, body, rows):
        from mlflow.pyfunc.scoring_server import invocations

        answer = invocations(json.dumps(body), "application/json", model, model.metadata.get_input_schema())
        predictions = json.loads(answer.response)["predictions"]
        assert len(predictions) == rows
        assert set(predictions[0]) == {*NAMES, "labels"}


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "rule"),
        [
            ({"temperature": 0.0}, "temperature must be a positive number"),
            ({"temperature": float("nan")}, "temperature must be a positive number"),
            ({"default_policy": "best"}, "default_policy must be one of fixed, per_label"),
            ({"thresholds": {"per_label": np.full(2, 0.5)}}, r"policy='per_label'.*for 3 labels"),
            ({"thresholds": {"per_label": np.array([0.5, np.nan, 0.5])}}, r"one number in \[0, 1\] per label"),
        ],
    )
    def test_facts_that_do_not_fit(self, classifier, tmp_path, changes, rule):
        with pytest.raises(ModelError, match=rule):
            write_bundle(tmp_path / "model", classifier, **changes)
        assert not (tmp_path / "model").exists()

    def test_no_classifier(self, tmp_path):
        with pytest.raises(ModelError, match="must be a folder of a saved one"):
            write_bundle(tmp_path / "model", tmp_path)

    def test_a_label_named_like_a_column(self, classifier, tmp_path):
        path = tmp_path / "classifier.json"
        content = json.loads((classifier / "classifier.json").read_text())
        path.write_text(json.dumps({**content, "label_names": ["joy", "labels", "grief"]}))
        with pytest.raises(ModelError, match=r"taken=\['labels'\]"):
            write_bundle(tmp_path / "model", tmp_path)

    def test_unpinned_requirements(self, tmp_path):
        path = tmp_path / "conda.yaml"
        path.write_text("dependencies:\n  - python=3.11\n  - pip:\n      - mlflow==3.17.2\n      - torch>=2\n")
        with pytest.raises(ModelError, match=r"missing=\['torch', 'transformers'"):
            packaging.served_requirements(path)
        with pytest.raises(ModelError, match=r"versions of a bundle come from conda\.yaml"):
            packaging.served_requirements(tmp_path / "none.yaml")
