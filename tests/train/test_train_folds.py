"""A cross-validation: nested runs, out-of-fold predictions, a failure in the middle, and the model of all examples."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from train_helpers import as_scores, client, predictions, read_json, reset_accelerate, runs_of

from trainer import fold_training, pipeline
from trainer.core import artifacts
from trainer.core.settings import as_argv
from trainer.data.config import DataConfig
from trainer.data.sources import load
from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.evaluation import evaluate_dev
from trainer.runs.out_of_fold import FOLD
from trainer.runs.results import read_predictions
from trainer.train import main

FOLDS = 2


@dataclass(frozen=True)
class CrossValidated:
    """A cross-validation whose second fold failed once, and which was resumed."""

    uri: str
    statuses: tuple[int, int]
    failed: dict
    """Status and tags of the parent run after the failure, and status of the run of the fold."""
    started: list[int]
    """Fold of each training that was started."""
    folder: Path
    """Run folder of the parent."""
    output: str


@pytest.fixture(scope="module")
def settings(base_settings):
    return base_settings | {"epochs": 1, "threshold_folds": 3, "output": "runs"}


@pytest.fixture(scope="module")
def cross_validated(tmp_path_factory, _migrated_store, settings):
    """Trainings run in this process: a child process would take seconds to load torch."""
    folder = tmp_path_factory.mktemp("folds")
    (folder / "mlflow.db").write_bytes(_migrated_store.read_bytes())
    uri = f"sqlite:///{folder}/mlflow.db"
    started: list[int] = []

    def run_to_end(command, variables):
        words = command[command.index("trainer.train") + 1 :]
        started.append(int(next(word for word in words if word.startswith("--fold=")).removeprefix("--fold=")))
        if started == [1, 2]:
            return 1
        reset_accelerate()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            return main(words)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.setattr(fold_training, "run_to_end", run_to_end)
        for slow in ("_write_report", "_save_model"):  # of the trainings, whose own tests see them
            patch.setattr(pipeline.TrainingRun, slow, lambda *_: None)
        first = main(as_argv(settings | {"folds": FOLDS}))
        parent = next(run for run in runs_of(uri) if "mlflow.parentRunId" not in run.data.tags)
        of_fold = read_json(folder / "runs" / parent.info.run_id / artifacts.FOLD_RUNS)["2"]
        failed = {
            "status": parent.info.status,
            "error": parent.data.tags[artifacts.TAG_ERROR],
            "fold": client(uri).get_run(of_fold).info.status,
            "outcome": (folder / "runs" / parent.info.run_id / artifacts.OUTCOME).is_file(),
        }
        second = main(["--resume=latest", "--output=runs"])
        reset_accelerate()
    output = folder / "runs"
    return CrossValidated(uri, (first, second), failed, started, output / parent.info.run_id, str(output))


def test_a_failed_fold_fails_the_parent_and_the_finished_ones_are_taken(cross_validated):
    assert cross_validated.statuses == (1, 0)
    assert cross_validated.failed["status"] == cross_validated.failed["fold"] == "FAILED"
    assert "2 of 2" in cross_validated.failed["error"]
    assert not cross_validated.failed["outcome"]
    assert cross_validated.started == [1, 2, 2]


def test_the_runs_of_folds_are_nested(cross_validated):
    parent = client(cross_validated.uri).get_run(cross_validated.folder.name)
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "moods-combined-42-2-folds"
    assert parent.data.tags[artifacts.TAG_COMMAND] == "folds"
    nested = [run for run in runs_of(cross_validated.uri) if run.info.run_id != parent.info.run_id]
    assert {run.data.tags["mlflow.parentRunId"] for run in nested} == {parent.info.run_id}
    assert sorted((run.info.run_name, run.data.params["cfg.fold"]) for run in nested) == [
        (f"fold {fold} of {FOLDS}", str(fold)) for fold in range(1, FOLDS + 1)
    ]
    assert {run.info.status for run in nested} == {"FINISHED"}


def test_every_example_is_predicted_by_the_run_that_held_it_out(cross_validated, data_folder):
    pooled = read_predictions(cross_validated.folder / artifacts.predictions_file(artifacts.OUT_OF_FOLD))
    given = load(DataConfig(dataset=str(data_folder)), seed=42)
    assert len(pooled.example_ids) == 83 + 40
    assert {f"dev/{name}" for name in given.dev.example_ids} <= set(pooled.example_ids)
    for fold, run in read_json(cross_validated.folder / artifacts.FOLD_RUNS).items():
        part = read_predictions(cross_validated.folder.parent / run / artifacts.predictions_file("dev"))
        chosen = pooled.take(np.array([cell == fold for cell in pooled.columns[FOLD]]))
        assert set(chosen.example_ids) == set(part.example_ids)
        order = [part.example_ids.index(name) for name in chosen.example_ids]
        np.testing.assert_array_equal(chosen.logits, part.logits[order])


def test_the_choices_are_those_of_all_folds(cross_validated, settings):
    _, arrays = predictions(cross_validated.folder, artifacts.OUT_OF_FOLD)
    names = tuple(read_json(cross_validated.folder / artifacts.LABELS))
    scores = LabelledScores(label_names=names, kind="logits", **as_scores(arrays))
    chosen = evaluate_dev(scores, calibration="auto", policy="auto", folds=settings["threshold_folds"], seed=42)
    thresholds = read_json(cross_validated.folder / artifacts.THRESHOLDS)
    assert thresholds["fitted_on"] == artifacts.OUT_OF_FOLD
    assert list(thresholds["policies"][chosen.policy].values()) == chosen.thresholds[chosen.policy].tolist()
    outcome = read_json(cross_validated.folder / artifacts.OUTCOME)
    assert outcome["out_of_fold/macro_f1"] == chosen.dev["macro_f1"]


def read_table(path):
    table = read_json(path)
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def test_the_scores_of_the_folds_and_their_mean(cross_validated):
    rows = read_table(cross_validated.folder / artifacts.FOLDS)
    scores = [read_json(cross_validated.folder.parent / row["run"] / artifacts.OUTCOME) for row in rows]
    dev = [one["dev/final/macro_f1"] for one in scores]
    assert [row["dev macro F1"] for row in rows] == pytest.approx(dev, rel=1e-3)
    metrics = client(cross_validated.uri).get_run(cross_validated.folder.name).data.metrics
    assert metrics["folds/dev_macro_f1"] == pytest.approx(np.mean(dev))
    assert metrics["folds/dev_macro_f1_sd"] == pytest.approx(np.std(dev, ddof=1))
    assert not any(name.startswith("dev/") for name in metrics)
    for name in ("test/macro_f1", "test/micro_f1"):
        of_models = [one[name] for one in scores]
        assert metrics[name] == pytest.approx(np.mean(of_models))
        assert metrics[f"{name}_sd"] == pytest.approx(np.std(of_models, ddof=1))
    assert not any(name.startswith("test/") and name.endswith(("_low", "_high")) for name in metrics)
    assert not (cross_validated.folder / artifacts.predictions_file("test")).exists()


def test_label_errors_are_sought_among_held_out_examples(cross_validated):
    folder = cross_validated.folder
    pooled = read_predictions(folder / artifacts.predictions_file(artifacts.OUT_OF_FOLD))
    counts = read_table(folder / artifacts.LABEL_ERROR_COUNTS)
    assert {row["label"]: row["positives"] for row in counts} == dict(
        zip(pooled.label_names, pooled.support.tolist(), strict=True)
    )
    by_fold = [row for row in read_table(folder / artifacts.SLICES) if row["slice_by"] == "fold"]
    assert sum(row["examples"] for row in by_fold) == pooled.num_examples
    assert {row["split"] for row in (*counts, *by_fold)} == {artifacts.OUT_OF_FOLD}


def test_the_report_has_every_fold_and_label(cross_validated):
    page = (cross_validated.folder / artifacts.REPORT).read_text("utf-8")
    for text in (*read_json(cross_validated.folder / artifacts.LABELS), "retrain_from=", "not independent"):
        assert text in page
    for run in read_json(cross_validated.folder / artifacts.FOLD_RUNS).values():
        assert run in page


def test_a_model_of_all_examples_has_the_thresholds_of_the_folds(cross_validated, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", cross_validated.uri)
    for slow in ("_write_report", "_save_model"):
        monkeypatch.setattr(pipeline.TrainingRun, slow, lambda *_: None)
    reset_accelerate()
    given = settings | {"output": cross_validated.output, "retrain_from": cross_validated.folder.name}
    assert main(as_argv(given)) == 0
    (made,) = [
        path
        for path in Path(cross_validated.output).glob("*/config.json")
        if json.loads(path.read_text())["retrain_from"]
    ]
    found, source = (read_json(folder / artifacts.THRESHOLDS) for folder in (made.parent, cross_validated.folder))
    assert found["policies"] == source["policies"]
    assert (found["fitted_on"], found["of_run"]) == (artifacts.OUT_OF_FOLD, cross_validated.folder.name)


@pytest.mark.parametrize(
    ("changes", "name"), [({"register": "true"}, "register"), ({"retrain_from": "x"}, "retrain_from")]
)
def test_what_needs_one_model_is_refused(settings, in_tmp, tracking_uri, capsys, changes, name):
    assert main(as_argv(settings | {"folds": FOLDS, **changes})) == 1
    assert f"`{name}`" in capsys.readouterr().err
    assert not runs_of(os.environ["MLFLOW_TRACKING_URI"])


def test_a_launcher_starts_one_fold_only(settings, in_tmp, tracking_uri, capsys, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr("trainer.config.check_runnable", lambda config: None)
    assert main(as_argv(settings | {"folds": FOLDS})) == 1
    assert "`fold`" in capsys.readouterr().err
