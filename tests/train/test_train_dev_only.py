"""A run that does not read test: what it leaves, and how it is completed later."""

import pytest
from train_helpers import ROWS, client, only_run, predictions, read_json, repeatable, runs_of

from trainer import pipeline
from trainer.core import artifacts


@pytest.fixture
def trial(train, tracking_uri, in_tmp, capsys):
    """A finished run of dev alone: its run, its folder and what it has printed."""
    assert train(read_test="false") == 0
    run = only_run(tracking_uri)
    return run, in_tmp / "runs" / run.info.run_id, capsys.readouterr().out


def dev_scores(metrics):
    return {name: value for name, value in metrics.items() if name.startswith(("dev/", "calibration/"))}


def about_test(metrics):
    return [name for name in metrics if name.startswith("test/")]


def test_it_leaves_dev_and_no_model(trial, tracking_uri, finished):
    run, folder, printed = trial
    assert run.info.status == "FINISHED"
    assert about_test(run.data.metrics) == []
    assert dev_scores(run.data.metrics) == dev_scores(finished.run.data.metrics)
    outcome = read_json(folder / artifacts.OUTCOME)
    assert about_test(outcome) == []
    assert outcome["model/latency_ms"] > 0
    assert outcome["dev/final/macro_f1"] == run.data.metrics["dev/final/macro_f1"]
    assert "test" not in read_json(folder / artifacts.CALIBRATION)
    assert {row[0] for row in read_json(folder / artifacts.PER_LABEL)["data"]} == {"dev"}
    listed = {item.path for item in client(tracking_uri).list_artifacts(run.info.run_id)}
    assert listed == {
        *("config.json", "environment.json", "dataset.json", "labels.json", "thresholds.json", "calibration.json"),
        *("scores.json", "per_label.json", "errors.json", "threshold_sweep.json", "predictions"),
        *("missed_labels.json", "seen_texts.safetensors"),
    }
    assert [path.name for path in (folder / artifacts.PREDICTIONS).iterdir()] == ["dev.parquet"]
    for name in (artifacts.MODEL, artifacts.CLASSIFIER, artifacts.FIGURES, artifacts.REPORT):
        assert not (folder / name).exists()
    assert not client(tracking_uri).search_logged_models([run.info.experiment_id])
    assert f"Result on dev: macro F1 {outcome['dev/final/macro_f1']:.3f}" in printed
    assert f"resume={run.info.run_id}" in " ".join(printed.split())
    assert "Result on test" not in printed


def test_it_can_be_completed_once(train, trial, tracking_uri, finished, capsys):
    run, folder, _ = trial
    dev_rows = (folder / artifacts.predictions_file("dev")).read_bytes()
    assert train(read_test="false", resume=run.info.run_id) == 1
    assert "`resume` must be" in " ".join(capsys.readouterr().err.split())
    assert train(resume="latest") == 1
    assert train(resume=run.info.run_id) == 0

    done = only_run(tracking_uri)
    assert (done.info.run_id, done.info.status) == (run.info.run_id, "FINISHED")
    mine, whole = (repeatable(read_json(at / artifacts.OUTCOME)) for at in (folder, finished.folder))
    assert mine == whole
    assert dev_scores(done.data.metrics) == dev_scores(run.data.metrics)
    assert (folder / artifacts.predictions_file("dev")).read_bytes() == dev_rows
    assert len(predictions(folder, "test")[0]) == ROWS["test"]
    drawn, expected = ({path.name for path in (at / artifacts.FIGURES).iterdir()} for at in (folder, finished.folder))
    assert drawn == expected
    assert (folder / artifacts.REPORT).is_file()
    assert not (folder / artifacts.CHECKPOINTS).exists()
    (model,) = client(tracking_uri).search_logged_models([run.info.experiment_id])
    assert model.source_run_id == run.info.run_id
    steps = [point.step for point in client(tracking_uri).get_metric_history(run.info.run_id, "train/loss")]
    assert len(steps) == len(set(steps))  # none was taken again

    assert train(resume=run.info.run_id) == 1


def test_a_completion_that_fails_is_an_unfinished_run(train, trial, monkeypatch):
    run, folder, _ = trial

    def full(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.packaging, "save_model", full)
        assert train(resume=run.info.run_id) == 1
    assert not (folder / artifacts.OUTCOME).exists()
    assert train(resume="latest") == 0
    assert about_test(read_json(folder / artifacts.OUTCOME))


def test_nothing_of_test_goes_through_the_model(observe, monkeypatch):
    monkeypatch.setattr(pipeline, "predict_logits", None)
    seen = observe(read_test="false")
    assert seen.status == 0
    assert sum(seen.eval_batches) == 2 * ROWS["dev"]


def test_a_model_that_is_not_kept_cannot_be_registered(train, tracking_uri, capsys):
    assert train(read_test="false", register="true") == 1
    assert "`register` must be false" in capsys.readouterr().err
    assert runs_of(tracking_uri) == []
