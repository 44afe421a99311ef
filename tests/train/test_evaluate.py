"""The whole `evaluate` command on the model of a finished run: from the registry, a run folder, and files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
from train_helpers import client, read_split, write_split

from trainer.core import artifacts
from trainer.core.settings import as_argv
from trainer.evaluate import main
from trainer.evaluating.config import EvaluateConfig
from trainer.tracking.backend import MlflowBackend
from trainer.tracking.event_log import EventLog

QUICK = {"bootstrap_resamples": 100}
DEFAULT = EvaluateConfig().model


@pytest.fixture(scope="module")
def place(finished, tmp_path_factory):
    """A folder with a copy of the store of the finished run, for all evaluations of this module."""
    folder = tmp_path_factory.mktemp("evaluations")
    shutil.copy(finished.uri.removeprefix("sqlite:///"), folder / "mlflow.db")
    return folder


@pytest.fixture
def evaluate(place, monkeypatch, capsys):
    """Run the command; returns its exit status, what it printed, and the folder of its run if it has one."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")

    def call(**settings):
        earlier = set(place.glob("runs/*"))
        status = main(as_argv({"model": "models:/emotions/1"} | QUICK | settings))
        printed = " ".join("".join(capsys.readouterr()).split())
        new = sorted(set(place.glob("runs/*")) - earlier)
        return status, printed, new[0] if new else None

    return call


@pytest.fixture(scope="module")
def own_test(place, data_folder):
    """An evaluation of the registered model on the test split of its own data: status, run folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
        settings = {"model": "models:/emotions/1", "dataset": data_folder, "keep_columns": "mood"}
        earlier = set(place.glob("runs/*"))
        status = main(as_argv(settings | QUICK))
    (folder,) = set(place.glob("runs/*")) - earlier
    return status, folder


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text())


def read_table(folder: Path, name: str):
    table = read(folder, name)
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def read_note(folder: Path):
    return client(f"sqlite:///{folder.parent.parent}/mlflow.db").get_run(folder.name).data.tags[artifacts.TAG_NOTE]


def test_scores_are_those_that_the_training_measured(own_test, finished):
    status, folder = own_test
    scores = read(folder, artifacts.OUTCOME)
    trained = finished.run.data.metrics
    assert status == 0
    for name in ("test/macro_f1", "test/micro_f1", "test/macro_ap", "test/ece", "test/macro_f1_low"):
        assert scores[name] == pytest.approx(trained[name], abs=1e-5), name
    tables = {row[0] for row in read(folder, artifacts.SLICES)["data"]}
    assert {"all", "words", "mood"} <= tables
    page = (folder / artifacts.REPORT).read_text()
    assert "Evaluation report" in page
    assert "nested" not in page
    assert len(list((folder / artifacts.FIGURES).iterdir())) == 6


def test_the_run_is_linked_to_the_model_and_the_model_shows_its_scores(own_test, place):
    folder = own_test[1]
    store = client(f"sqlite:///{place}/mlflow.db")
    run = store.get_run(folder.name)
    (used,) = run.inputs.model_inputs
    model = store.get_logged_model(used.model_id)
    measured = {point.key: point for point in model.metrics if point.run_id == folder.name}

    assert run.info.status == "FINISHED"
    assert run.data.tags["command"] == "evaluate"
    assert run.data.tags["model.source"] == "models:/emotions/1"
    assert measured["test/macro_f1"].value == run.data.metrics["test/macro_f1"]
    (given,) = run.inputs.dataset_inputs
    point = measured["test/macro_f1"]
    assert (point.dataset_name, point.dataset_digest) == (given.dataset.name, given.dataset.digest)
    uploaded = {file.path for file in store.list_artifacts(folder.name)}
    assert {artifacts.EVALUATION, artifacts.EVALUATE, artifacts.REPORT, artifacts.SCORES} <= uploaded


def test_texts_of_train_are_left_out_and_counted(evaluate, own_test, finished, data_folder, tmp_path):
    """A folder with one file, a run folder as model, and its own earlier predictions to compare with."""
    rows = read_split(data_folder / "test.csv") + read_split(data_folder / "train.csv")[:5]
    (tmp_path / "more").mkdir()
    write_split(tmp_path / "more" / "test.csv", rows)
    status, printed, _ = evaluate(dataset=tmp_path / "more", seen_texts="refuse", model=finished.folder)
    assert (status, "5 of 45" in printed) == (1, True)

    status, printed, folder = evaluate(dataset=tmp_path / "more" / "test.csv", model=finished.folder)
    facts = read(folder, artifacts.EVALUATION)
    assert status == 0
    assert (facts["examples"]["left out"], facts["examples"]["scored"]) == (5, 40)
    assert facts["model"]["model_id"].startswith("m-")
    assert read(folder, artifacts.OUTCOME)["test/macro_f1"] == read(own_test[1], artifacts.OUTCOME)["test/macro_f1"]


def test_a_file_of_predictions_is_compared_with_a_model(evaluate, own_test, data_folder):
    file = own_test[1] / artifacts.EVALUATED
    status, printed, folder = evaluate(
        model="models:/emotions@champion", predictions=file, dataset=data_folder, compare_to="models:/emotions/1"
    )
    (pair,) = read(folder, artifacts.EVALUATION)["comparison"]["pairs"]
    assert status == 0
    assert (pair["difference"], pair["verdict"]) == (0.0, "equivalent")
    assert read(folder, artifacts.OUTCOME)["comparison/difference"] == 0.0
    assert "emotions/1" in printed


def test_texts_of_train_alone_and_unknown_labels_are_refused(evaluate, data_folder, tmp_path):
    write_split(tmp_path / "seen.csv", read_split(data_folder / "train.csv")[:10])
    status, printed, _ = evaluate(dataset=tmp_path / "seen.csv")
    assert (status, "All 10 texts" in printed) == (1, True)
    (tmp_path / "moods.yaml").write_text("anger: [anger, grieff]")
    status, printed, _ = evaluate(dataset=data_folder, label_mapping=tmp_path / "moods.yaml")
    assert (status, "`grieff`" in printed, "`grief`" in printed) == (1, True, True)


def test_texts_that_chose_or_trained_the_model_are_scored_with_a_warning(evaluate, own_test, data_folder, tmp_path):
    """Dev of the model with texts of train, which are kept; two of its labels are grouped."""
    rows = read_split(data_folder / "dev.csv") + read_split(data_folder / "train.csv")[:5]
    write_split(tmp_path / "dev.csv", rows)
    (tmp_path / "moods.yaml").write_text("upset: [anger, grief]\njoy: [joy]")
    status, printed, folder = evaluate(
        dataset=tmp_path / "dev.csv",
        split="dev",
        seen_texts="keep",
        label_mapping=tmp_path / "moods.yaml",
        compare_to="models:/emotions/1",
    )
    assert status == 0
    facts, note = read(folder, artifacts.EVALUATION), read_note(folder)
    page = " ".join((folder / artifacts.REPORT).read_text().split())
    for warning in ("40 of 45 scored texts are in the dev of emotions/1", "5 of 45 scored texts are in the training"):
        assert any(warning in text for text in facts["warnings"])
        assert warning in printed
        assert warning in page
        assert warning in note
    assert facts["examples"]["scored"] == 45
    assert not (folder / artifacts.LABEL_ERRORS).exists()
    assert read(folder, artifacts.LABELS) == ["upset", "joy"]
    upset = [bool({"anger", "grief"} & set(row["labels"].split("|"))) for row in rows]
    (row,) = [one for one in read_table(folder, artifacts.PER_LABEL) if one["label"] == "upset"]
    assert row["support"] == sum(upset)
    assert not any("in the dev of" in text for text in read(own_test[1], artifacts.EVALUATION)["warnings"])


def test_predictions_of_other_labels_are_refused(evaluate, own_test, data_folder, tmp_path):
    frame = pandas.read_parquet(own_test[1] / artifacts.EVALUATED).drop(columns="predicted_labels")
    renamed, fewer = tmp_path / "renamed.parquet", tmp_path / "fewer.parquet"
    frame.rename(columns={"probability_joy": "probability_happy"}).to_parquet(renamed)
    frame.drop(columns="probability_grief").to_parquet(fewer)
    status, printed, _ = evaluate(model=DEFAULT, predictions=renamed, dataset=data_folder)
    assert (status, "happy" in printed) == (1, True)
    status, printed, _ = evaluate(
        model=DEFAULT, predictions=fewer, dataset=data_folder, compare_to="models:/emotions/1"
    )
    assert (status, "`compare_to`" in printed, "grief" in printed) == (1, True, True)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "dataset"),
        ({"predictions": "a.csv"}, "predictions"),
        ({"dataset": "starter", "threshold": 2}, "threshold"),
        ({"dataset": "starter", "threshold": 0.5, "policy": "fixed"}, "policy"),
        ({"dataset": "starter", "bootstrap_resamples": 1}, "bootstrap_resamples"),
        ({"dataset": "starter", "label_mapping": "goemotions-ekmann"}, "goemotions-ekman`"),
    ],
)
def test_wrong_settings_are_named(settings, named, evaluate):
    status, printed, _ = evaluate(**settings)
    assert (status, named in printed) == (1, True)


def test_a_version_number_is_one_of_the_same_registered_model():
    assert EvaluateConfig(model="models:/moods@champion", compare_to="3").compared == "models:/moods/3"
    assert EvaluateConfig(model="runs:/x/model", compare_to="a.csv").compared == "a.csv"


def test_a_link_to_a_model_that_the_server_lost_is_found_missing(own_test, place):
    folder, uri = own_test[1], f"sqlite:///{place}/mlflow.db"
    with EventLog(folder) as log:
        events = list(log.events())
    (link,) = [event for event in events if event.kind == "model_input"]
    lost = replace(link, content=link.content | {"model_id": "m-other"})
    assert MlflowBackend(client(uri), uri).find_missing(folder, [*events, lost]) == [lost]
