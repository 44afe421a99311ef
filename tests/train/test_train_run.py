"""The whole command: what a run leaves and what it reads."""

import json
import re
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file
from train_helpers import LABELS, LEAKED, ROWS, as_scores, client, predictions, read_json, read_split, write_split
from transformers import AutoModel, DebertaConfig

from tests.evaluation.evaluation_helpers import fit_policy
from trainer import pipeline
from trainer.core import artifacts, descriptions
from trainer.evaluation import metrics, thresholds
from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.calibration import Calibration, calibrate
from trainer.evaluation.calibration_fit import METHODS
from trainer.runs import results
from trainer.runs.predicted_labels import read_predicted_labels

STEPS = 15


def test_the_run_is_finished_in_the_default_experiment(finished):
    assert finished.run.info.status == "FINISHED"
    assert finished.experiment == artifacts.DEFAULT_EXPERIMENT
    assert artifacts.TAG_ERROR not in finished.run.data.tags


def test_artifacts_of_the_run_are_those_promised(finished):
    listed = {item.path: item for item in client(finished.uri).list_artifacts(finished.run.info.run_id)}
    assert set(listed) == {
        *("config.json", "environment.json", "dataset.json", "labels.json", "thresholds.json", "calibration.json"),
        *("scores.json", "per_label.json", "errors.json", "threshold_sweep.json", "seen_texts.safetensors"),
        *("missed_labels.json", "slices.json", "label_errors.json", "label_error_counts.json"),
        *("predictions", "figures", "report.html"),
        *("model_card.md", "model_card.html"),
    }

    def inside(folder):
        return {item.path for item in client(finished.uri).list_artifacts(finished.run.info.run_id, folder)}

    assert inside("predictions") == {"predictions/dev.parquet", "predictions/test.parquet"}
    assert {path.rpartition(".")[2] for path in inside("figures")} == {"png"}
    assert len(inside("figures")) == 8


def test_every_metric_tag_and_file_is_described(finished):
    """The reference pages of the documentation are made of these descriptions."""
    patterns = {
        re.compile(re.escape(name).replace("LABEL", r"[^/]+").replace("POLICY", r"\w+").replace("NAME", r"[\w/]+"))
        for name in descriptions.METRICS
    }
    logged = finished.run.data.metrics
    assert [name for name in logged if not any(pattern.fullmatch(name) for pattern in patterns)] == []
    tags = {name.partition(".ROLE")[0] for name in descriptions.TAGS}
    ours = [name for name in finished.run.data.tags if not name.startswith("mlflow.")]
    assert [name for name in ours if name not in tags and name.rpartition(".")[0] not in tags] == []
    files = {path.name for path in finished.folder.iterdir()}
    assert files - set(descriptions.FILES) == set()


def test_run_folder_keeps_results_and_no_checkpoints(finished):
    assert not (finished.folder / artifacts.CHECKPOINTS).exists()
    outcome = read_json(finished.folder / artifacts.OUTCOME)
    logged = finished.run.data.metrics
    names = set(artifacts.HEADLINES) & outcome.keys()
    assert set(artifacts.HEADLINES) - names == {"test/macro_f1_supported"}  # no label has 40 positives here
    assert {name: logged[name] for name in names} == {name: outcome[name] for name in names}
    assert read_json(finished.folder / artifacts.LABELS) == list(LABELS)
    assert "command" in read_json(finished.folder / artifacts.ENVIRONMENT)


def test_metrics_have_their_names_and_steps(finished):
    def steps(name):
        return [point.step for point in client(finished.uri).get_metric_history(finished.run.info.run_id, name)]

    for name in ("train/loss", "train/learning_rate", "train/grad_norm", "train/samples_per_second"):
        assert steps(name) == [2, 4, 5, 6, 8, 10, 12, 14, 15], name
    assert steps("dev/loss") == [5, 10, 15]
    assert steps("dev/macro_f1") == steps("dev/nll") == [5, 10, 15]
    # One value at step 0, which MLflow draws as a bar; any other number is in the tables.
    single = [name for name in finished.run.data.metrics if not name.startswith(("train/", "system/"))]
    assert {name for name in single if steps(name) == [0]} == set(artifacts.HEADLINES) - {"test/macro_f1_supported"}
    curves = {f"dev/{name}" for name in ("loss", "nll", "macro_f1", "micro_f1", "macro_ap")}
    assert set(single) - set(artifacts.HEADLINES) == curves
    assert [name for name in finished.run.data.metrics if name.startswith("system/")]


def test_costs_are_those_of_the_model_kept(finished):
    cost = read_json(finished.folder / artifacts.OUTCOME)
    files = (finished.folder / artifacts.CLASSIFIER).rglob("*.safetensors")
    count = sum(tensor.numel() for path in files for tensor in load_file(path).values())
    assert cost["model/parameters"] == count > 1000
    assert cost["model/size_mb"] == 4 * count / 1e6
    assert cost["model/latency_ms"] > 0
    for name in ("model/parameters", "model/size_mb", "model/latency_ms"):
        (point,) = client(finished.uri).get_metric_history(finished.run.info.run_id, name)
        assert (point.step, point.value) == (0, cost[name])


def test_parameters_tags_and_inputs_name_what_was_run(finished):
    data = finished.run.data
    config = read_json(finished.folder / artifacts.CONFIG)
    names = {name.removeprefix("cfg.") for name in data.params}
    assert names < set(config)
    assert {"loss", "learning_rate", "ratio", "seed", "processes"} < names
    assert not names & {"output", "register", "retrain_from", "restarts"}  # of the machine, empty, unread
    assert data.params["cfg.learning_rate"] == "0.001"
    assert data.tags["preset"] == "starter"
    assert "macro F1" in data.tags[artifacts.TAG_NOTE]
    assert finished.run.info.run_name == f"moods-{config['loss']}-{config['seed']}"
    inputs = {tag.value: item.dataset for item in finished.run.inputs.dataset_inputs for tag in item.tags}
    assert set(inputs) == {"train", "dev", "test"}
    for role, dataset in inputs.items():
        profile = json.loads(dataset.profile)
        assert data.tags[f"data.digest.{role}"] == profile["digest"][:16]
        assert profile["digest"].startswith(dataset.digest)
        assert profile["rows"] == ROWS[role]
        assert profile["labels"] == len(LABELS)


@pytest.mark.parametrize(("role", "score"), [("dev", "dev/final/macro_f1"), ("test", "test/macro_f1")])
def test_the_predicted_labels_computed_from_the_files_have_the_score_of_the_run(finished, role, score):
    found = read_predicted_labels(finished.folder, role)
    assert len(found.example_ids) == ROWS[role]
    assert metrics.macro_f1(found.scores, found.predictions) == finished.run.data.metrics[score]


def test_commit_is_a_tag(finished):
    commit = read_json(finished.folder / artifacts.ENVIRONMENT).get("git_commit")
    if commit is None:
        pytest.skip("this copy of the code is in no git repository")
    assert finished.run.data.tags[artifacts.TAG_GIT_COMMIT] == commit
    assert finished.run.data.tags[artifacts.TAG_GIT_DIRTY] in ("true", "false")


def test_table_per_label_loads_as_a_table(finished, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", finished.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", finished.run.info.experiment_id)
    table = mlflow.load_table(artifacts.PER_LABEL, run_ids=[finished.run.info.run_id])
    assert len(table) == 2 * len(LABELS)
    test = table[table.role == "test"].set_index("label")
    outcome = read_json(finished.folder / artifacts.OUTCOME)
    assert test.f1.mean() == pytest.approx(outcome["test/macro_f1"], abs=1e-4)
    assert all(value == float(f"{value:.4g}") for value in test.threshold)

    scores = mlflow.load_table(artifacts.SCORES, run_ids=[finished.run.info.run_id]).set_index("score")
    for name, column in (("macro_f1", "test"), ("jaccard", "dev"), ("macro_f1, policy global", "test")):
        assert 0 <= scores.loc[name, column] <= 1
    for column, metric in (("dev", "dev/final/macro_f1"), ("test", "test/macro_f1"), ("test_low", "test/macro_f1_low")):
        assert scores.loc["macro_f1", column] == pytest.approx(outcome[metric], abs=1e-3)


def test_data_set_is_described(finished):
    facts = read_json(finished.folder / artifacts.DATASET)
    assert (facts["name"], facts["label_names"], facts["licence"]) == ("moods", list(LABELS), "not stated")
    assert facts["rows"] == ROWS
    assert facts["overlap"]["dropped"] == facts["overlap"]["dev_exact"] == LEAKED
    assert facts["left_in_train"] == {"dev": 0, "test": 0}
    tags = finished.run.data.tags
    overlap = {name: value for name, value in tags.items() if name.startswith("data.overlap")}
    assert overlap == {"data.overlap.dev_in_train": str(LEAKED)}
    assert tags["data.truncated"].startswith("train ")
    assert tags["data.padding"].endswith("%")
    assert {role: digest[:16] for role, digest in facts["digests"].items()} == {
        role: tags[f"data.digest.{role}"] for role in ROWS
    }


def test_predictions_hold_the_texts(finished, data_folder):
    for role in ("dev", "test"):
        found = results.read_predictions(finished.folder / artifacts.predictions_file(role))
        assert list(found.texts) == [row["text"] for row in read_split(data_folder / f"{role}.csv")]
        assert found.label_names == LABELS


def test_card_contains_the_scores_of_the_run(finished):
    card = (finished.folder / artifacts.MODEL_CARD).read_text(encoding="utf-8")
    page = (finished.folder / artifacts.MODEL_CARD_PAGE).read_text(encoding="utf-8")
    facts = read_json(finished.folder / artifacts.DATASET)
    for text in (
        finished.run.info.run_id,
        f"{finished.run.data.metrics['test/macro_f1']:.3f}",
        *facts["digests"].values(),
    ):
        assert text in card
        assert text in page
    assert "data:image/png;base64," in page


def test_scores_can_be_made_again_from_the_files(finished):
    table, test = predictions(finished.folder, "test")
    assert json.loads(table.schema.metadata[b"label_names"]) == list(LABELS)
    assert table["row_id"].to_pylist() == [f"test{number}" for number in range(ROWS["test"])]
    calibration = Calibration.of(read_json(finished.folder / artifacts.CALIBRATION))
    scores = calibrate(LabelledScores(label_names=LABELS, kind="logits", **as_scores(test)), calibration)
    chosen, logged = (read_json(finished.folder / name) for name in (artifacts.THRESHOLDS, artifacts.OUTCOME))
    for policy, per_label in chosen["policies"].items():
        cuts = np.array([per_label[label] for label in LABELS])
        predicted = thresholds.predict(scores.probabilities, cuts)
        found = metrics.headline(scores, predicted)
        assert logged[f"test/macro_f1/{policy}"] == pytest.approx(found["macro_f1"], abs=1e-12)
        if policy == chosen["default_policy"]:
            assert logged["test/macro_f1"] == pytest.approx(found["macro_f1"], abs=1e-12)


def test_calibration_and_thresholds_come_from_dev(finished):
    _, dev = predictions(finished.folder, "dev")
    logits = LabelledScores(label_names=LABELS, kind="logits", **as_scores(dev))
    written = read_json(finished.folder / artifacts.CALIBRATION)
    calibration = METHODS[written["method"]](logits)
    assert Calibration.of(written) == calibration
    on_dev = calibrate(logits, calibration)
    kept = read_json(finished.folder / artifacts.THRESHOLDS)["policies"]["per_label"]
    fitted = fit_policy("per_label", on_dev, strength=0.0)
    np.testing.assert_allclose([kept[label] for label in LABELS], fitted, rtol=1e-6)


def test_served_model_gives_the_probabilities_of_the_evaluation(finished, data_folder, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", finished.uri)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    texts = [row["text"] for row in read_split(data_folder / "test.csv")]
    _, test = predictions(finished.folder, "test")
    expected = Calibration.of(read_json(finished.folder / artifacts.CALIBRATION)).probabilities(test["logits"])
    for address in (f"runs:/{finished.run.info.run_id}/model", "models:/emotions/1"):
        answers = mlflow.pyfunc.load_model(address).predict(texts)
        np.testing.assert_allclose(answers[list(LABELS)].to_numpy(), expected, atol=1e-5)


def test_register_makes_version_one(finished):
    (version,) = client(finished.uri).search_model_versions("name = 'emotions'")
    assert (int(version.version), version.run_id) == (1, finished.run.info.run_id)
    note = finished.run.data.tags[artifacts.TAG_NOTE]
    assert version.description.startswith(note)
    page = f"#/experiments/{finished.run.info.experiment_id}/runs/{finished.run.info.run_id}"
    assert f"[report]({page}/artifacts/report.html)" in note
    assert f"macro F1 {finished.run.data.metrics['test/macro_f1']:.3f}" in note


class TestTestDataIsReadOnce:
    """Nothing that is chosen depends on test."""

    @pytest.fixture
    def other_test(self, own_data):
        rows = read_split(own_data / "test.csv")
        for number, row in enumerate(rows):
            row["labels"] = "grief" if number % 2 else "|".join(set(LABELS) - set(row["labels"].split("|")))
            row["text"] = f"w39 w38 w37 {row['text']}"
        write_split(own_data / "test.csv", rows)
        return own_data

    def test_other_test_rows_change_only_test_metrics(self, observe, other_test):
        base, other = observe(epochs=2), observe(epochs=2, dataset=other_test)
        for name in ("dev/final/macro_f1", "dev/macro_f1", "dev/loss", "dev/nll", "train/loss"):
            assert base.series(name) == other.series(name) != [], name
        assert base.outcome.calibration == other.outcome.calibration
        assert base.outcome.policy == other.outcome.policy
        for policy, values in base.outcome.thresholds.items():
            np.testing.assert_array_equal(values, other.outcome.thresholds[policy])
        weights = zip(base.fitted.model.parameters(), other.fitted.model.parameters(), strict=True)
        assert all(bool((mine == theirs).all()) for mine, theirs in weights)
        assert base.outcome.per_label["dev"] == other.outcome.per_label["dev"]
        assert base.series("test/macro_f1") != other.series("test/macro_f1")

    def test_test_rows_go_through_the_model_once(self, observe, monkeypatch):
        read = []
        real = pipeline.predict_logits

        def predict_logits(model, split, *context, **more):
            read.append(split.example_ids[0])
            return real(model, split, *context, **more)

        monkeypatch.setattr(pipeline, "predict_logits", predict_logits)
        seen = observe(epochs=2)
        assert read == ["test0"]
        assert sum(seen.eval_batches) == 3 * ROWS["dev"] + ROWS["test"]


class TestAttention:
    """What a run says of the attention that its encoder has."""

    @pytest.fixture
    def deberta(self, model_folder, tmp_path):
        def save(**changes):
            folder = shutil.copytree(model_folder, tmp_path / "deberta", dirs_exist_ok=True)
            shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
            config = DebertaConfig(vocab_size=45, pos_att_type=["c2p"], **shape, **changes)
            AutoModel.from_config(config).save_pretrained(folder)
            return folder

        return save

    def test_compact_attention_is_a_tag(self, observe, deberta):
        seen = observe(model=deberta(relative_attention=True))
        assert seen.tracker.tags["attention"] == "compact"
        assert "attention" not in seen.error

    def test_stock_in_its_place_is_a_tag_and_one_warning(self, observe, deberta):
        folder = deberta(relative_attention=True, talking_head=True)
        seen = observe(model=folder)
        assert seen.tracker.tags["attention"] == "stock"
        assert seen.error.count("attention of transformers") == 1
        asked = observe(model=folder, attention="stock")
        assert asked.tracker.tags["attention"] == "stock"
        assert "attention" not in asked.error
