import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from registry import bundle
from trainer.core.calibration import apply_temperature
from trainer.core.errors import ModelError
from trainer.model import saving
from trainer.model.classifier import EmotionClassifier
from trainer.model.config import ModelConfig
from trainer.model.encoder import load_encoder

NAMES = ("joy", "grief", "surprise (good)")
WORDS = ["[PAD]", "[UNK]", "so", "proud", "of", "you", "i", "miss", "her"]
TEXTS = ["so proud of you", "i miss her so", "her", "of of of of of of of of of of", "you i miss"]
TEMPERATURE = 1.7
MAX_LENGTH = 8
PER_LABEL = np.array([0.2, 0.9, 0.5])

_LOAD_ELSEWHERE = """
import json, sys
import mlflow.pyfunc
table = mlflow.pyfunc.load_model(sys.argv[1]).predict(json.loads(sys.argv[2]))
assert "trainer" not in sys.modules and "registry" not in sys.modules
print(table.to_json(orient="records", double_precision=15))
"""


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """Folder of a tiny saved classifier whose answers differ between texts."""
    root = tmp_path_factory.mktemp("bundle")
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.TokenizersBackend(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
    config = transformers.DebertaV2Config(
        vocab_size=9,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        type_vocab_size=0,
    )
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(root / "encoder")
    tokenizer.save_pretrained(root / "encoder")
    encoder, tokenizer = load_encoder(ModelConfig(model=str(root / "encoder")))
    model = EmotionClassifier(encoder, len(NAMES), pooling="mean", dropout=0.1)
    torch.nn.init.normal_(model.head.weight)
    saving.save(model, tokenizer, root / "classifier", NAMES, {})
    return root / "classifier"


def write(folder, classifier, **changes):
    facts = {
        "temperature": TEMPERATURE,
        "thresholds": {"fixed": np.full(3, 0.5), "per_label": PER_LABEL},
        "default_policy": "per_label",
        "max_length": MAX_LENGTH,
    }
    bundle.save_bundle(folder, classifier, **{**facts, **changes})
    return folder


@pytest.fixture(scope="module")
def folder(classifier, tmp_path_factory):
    return write(tmp_path_factory.mktemp("served") / "model", classifier)


@pytest.fixture(scope="module")
def model(folder):
    import mlflow.pyfunc

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        return mlflow.pyfunc.load_model(str(folder))


@pytest.fixture(scope="module")
def expected(classifier):
    """Probabilities (n, k) of TEXTS, each text alone, as an evaluation computes them."""
    model, tokenizer, _ = saving.load(classifier)
    rows = []
    with torch.inference_mode():
        for text in TEXTS:
            batch = tokenizer([text], return_tensors="pt", truncation=True, max_length=MAX_LENGTH)
            rows.append(model(batch["input_ids"], batch["attention_mask"])[0].numpy())
    return apply_temperature(np.stack(rows), TEMPERATURE)


def assert_refused(model, *args, match, **kwargs):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=match):
        model.predict(*args, **kwargs)


class TestPredictions:
    def test_probabilities_are_the_evaluations(self, model, expected):
        table = model.predict(TEXTS)
        assert list(table.columns) == [*NAMES, "labels"]
        assert expected.std(axis=0).min() > 0.01
        np.testing.assert_allclose(table[list(NAMES)].to_numpy(), expected, atol=1e-6)

    def test_order_and_number_of_texts_do_not_matter(self, model, expected):
        order = np.arange(100) % len(TEXTS)
        table = model.predict([TEXTS[i] for i in order])
        np.testing.assert_allclose(table[list(NAMES)].to_numpy(), expected[order], atol=1e-6)

    def test_labels_are_those_at_or_above_their_threshold_best_first(self, model, expected):
        for row, labels in zip(expected, model.predict(TEXTS)["labels"], strict=True):
            assert labels == [NAMES[i] for i in np.argsort(-row) if row[i] >= PER_LABEL[i]]

    def test_a_threshold_is_reached_by_equality(self, model):
        probability = float(model.predict(TEXTS[:1])["joy"].iloc[0])
        assert "joy" in model.predict(TEXTS[:1], params={"threshold": probability})["labels"].iloc[0]
        above = np.nextafter(probability, 1)
        assert "joy" not in model.predict(TEXTS[:1], params={"threshold": above})["labels"].iloc[0]

    @pytest.mark.parametrize(
        "form",
        [
            pytest.param(lambda: pd.DataFrame({"text": TEXTS}), id="frame"),
            pytest.param(lambda: pd.DataFrame({"id": range(5), "text": TEXTS, "more": None}), id="frame with others"),
            pytest.param(lambda: pd.Series(TEXTS), id="series"),
            pytest.param(lambda: pd.Series(TEXTS, name="comment"), id="named series"),
            pytest.param(lambda: np.array(TEXTS), id="array"),
            pytest.param(lambda: tuple(TEXTS), id="tuple"),
        ],
    )
    def test_every_form_of_input_gives_the_same(self, model, form):
        pd.testing.assert_frame_equal(model.predict(form()), model.predict(TEXTS))

    def test_one_text_is_one_row(self, model):
        pd.testing.assert_frame_equal(model.predict(TEXTS[0]), model.predict(TEXTS[:1]))

    def test_rows_keep_their_index(self, model):
        table = model.predict(pd.DataFrame({"text": TEXTS}, index=list("edcba")))
        assert list(table.index) == list("edcba")
        np.testing.assert_array_equal(table["joy"].to_numpy(), model.predict(TEXTS)["joy"].to_numpy())

    def test_nothing_gives_an_empty_table(self, model):
        assert model.predict([]).shape == (0, 4)


class TestParameters:
    def test_policy(self, model, expected):
        chosen = model.predict(TEXTS, params={"policy": "fixed"})["labels"]
        assert [set(labels) for labels in chosen] == [
            {NAMES[i] for i in np.flatnonzero(row >= 0.5)} for row in expected
        ]
        assert chosen.tolist() != model.predict(TEXTS)["labels"].tolist()

    def test_threshold_takes_the_place_of_the_policy(self, model):
        assert all(len(labels) == 3 for labels in model.predict(TEXTS, params={"threshold": 0})["labels"])
        assert model.predict(TEXTS, params={"threshold": 1})["labels"].tolist() == [[]] * len(TEXTS)

    def test_top_k_keeps_the_most_probable(self, model, expected):
        labels = model.predict(TEXTS, params={"threshold": 0.0, "top_k": 2})["labels"]
        assert labels.tolist() == [[NAMES[i] for i in np.argsort(-row)[:2]] for row in expected]

    @pytest.mark.parametrize(
        ("params", "rule"),
        [
            ({"policy": "best"}, "policy must be one of fixed, per_label, but got policy='best'"),
            ({"threshold": 1.5}, r"threshold must be in \[0, 1\], but got threshold=1.5"),
            ({"threshold": float("nan")}, r"threshold must be in \[0, 1\]"),
            ({"top_k": -1}, r"top_k must be 0 \(all\) or more"),
            ({"top_k": "two"}, "Can not safely convert"),
        ],
    )
    def test_one_out_of_range_is_refused(self, model, params, rule):
        assert_refused(model, TEXTS, params=params, match=rule)


class TestBadInput:
    def test_missing_column(self, model):
        assert_refused(model, pd.DataFrame({"comment": TEXTS}), match=r"column 'text', but got columns=\['comment'\]")

    @pytest.mark.parametrize("value", [None, 3, float("nan"), ["so"]])
    def test_not_a_text(self, model, value):
        assert_refused(model, ["so", value], match=r"every text must be a string, but got 1 .*row 1")
        frame = pd.DataFrame({"text": pd.Series(["so", value], dtype=object)})
        assert_refused(model, frame, match=r"every text must be a string, but got 1 .*row 1")

    def test_every_bad_row_counts_and_ten_are_shown(self, model):
        assert_refused(model, [None] * 12, match=r"got 12 that are not \(row 0: None, .*row 9: None\)")

    def test_another_kind(self, model):
        assert_refused(model, 5, match="must be a DataFrame with a column 'text', a Series or a list of texts")


class TestFolder:
    def test_it_holds_no_pickle_and_only_the_code_it_needs(self, folder):
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert {path.rsplit(".", 1)[-1] for path in files} == {"py", "json", "safetensors", "yaml", "txt", "MLmodel"}
        code = {path.split("/", 2)[2] for path in files if path.startswith("code/")}
        assert {"core/calibration.py", "core/errors.py", "model/encoder.py", "model/saving.py"} <= code
        assert not [path for path in code if path.startswith(("data/", "fit/"))]
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
        import mlflow.pyfunc

        plain = bundle._closure
        monkeypatch.setattr(bundle, "_closure", lambda names: plain([*names, "trainer.model.class_weights"]))
        other = mlflow.pyfunc.load_model(str(write(tmp_path / "other", classifier, temperature=1e-3)))
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
        }

    def test_its_example_works(self, folder, model):
        from mlflow.models import Model

        example = Model.load(str(folder)).load_input_example(str(folder))
        assert list(example.columns) == ["text"]
        assert len(model.predict(example)) == len(example)

    def test_its_requirements_are_the_pins_of_the_project(self, folder, root):
        wanted = (folder / "requirements.txt").read_text().split()
        assert wanted == bundle.served_requirements(root / "conda.yaml")
        assert [line.split("==")[0] for line in wanted] == list(bundle.SERVED_PACKAGES)

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
            write(tmp_path / "model", classifier, **changes)
        assert not (tmp_path / "model").exists()

    def test_no_classifier(self, tmp_path):
        with pytest.raises(ModelError, match="must be a folder of a saved one"):
            write(tmp_path / "model", tmp_path)

    def test_a_label_named_like_a_column(self, classifier, tmp_path):
        path = tmp_path / "classifier.json"
        content = json.loads((classifier / "classifier.json").read_text())
        path.write_text(json.dumps({**content, "label_names": ["joy", "labels", "grief"]}))
        with pytest.raises(ModelError, match=r"taken=\['labels'\]"):
            write(tmp_path / "model", tmp_path)

    def test_unpinned_requirements(self, tmp_path):
        path = tmp_path / "conda.yaml"
        path.write_text("dependencies:\n  - python=3.11\n  - pip:\n      - mlflow==3.17.2\n      - torch>=2\n")
        with pytest.raises(ModelError, match=r"missing=\['torch', 'transformers'"):
            bundle.served_requirements(path)
        with pytest.raises(ModelError, match=r"versions of a bundle come from conda\.yaml"):
            bundle.served_requirements(tmp_path / "none.yaml")
