"""What a run on the tracking server contains."""

import json

import pytest
from tracking_helpers import history, logged_history

from trainer.core import artifacts
from trainer.tracking import uploader
from trainer.tracking.run import NullTracker, Tracker, open_run, sync

# ruff: noqa: PT012 - a block that raises here is a run of several lines


def test_a_run_contains_what_was_logged_and_ends_finished(database, tmp_path):
    with open_run(tmp_path / "runs", parameters={"lr": 1e-5, "register": True, "resume": None, "text": ""}) as run:
        run.set_tags({artifacts.TAG_PRESET: "starter"})
        for step in range(3):
            run.log_metrics({"train/loss": 1 / (step + 1), "dev/macro_f1": float("nan")}, step)
        (run.folder / "figures").mkdir()
        (run.folder / "figures" / "pr.png").write_bytes(b"png")
        (run.folder / artifacts.CONFIG).write_text("{}")
        (run.folder / "checkpoint.bin").write_bytes(b"not for the server")
        run.log_artifacts()

    stored = database.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert database.get_experiment(stored.info.experiment_id).name == "emotions"
    assert stored.data.params == {"cfg.lr": "1e-05", "cfg.register": "true", "cfg.resume": "none", "cfg.text": ""}
    assert stored.data.tags["preset"] == "starter"
    assert stored.data.tags["mlflow.user"]
    assert artifacts.TAG_ERROR not in stored.data.tags
    assert history(database, run.run_id, "train/loss") == logged_history(run.folder, "train/loss")
    assert [step for step, _, _ in history(database, run.run_id, "train/loss")] == [0, 1, 2]
    assert {file.path for file in database.list_artifacts(run.run_id)} == {"config.json", "figures"}
    assert [file.path for file in database.list_artifacts(run.run_id, "figures")] == ["figures/pr.png"]
    assert run.folder == tmp_path / "runs" / run.run_id
    assert sync(run.folder) == 0


def test_a_hundred_metrics_go_in_one_call_and_neighbours_share_it(database, tmp_path, monkeypatch):
    import mlflow

    calls = []
    plain = mlflow.MlflowClient.log_batch
    monkeypatch.setattr(uploader, "_INTERVAL_SECONDS", 600)
    monkeypatch.setattr(
        mlflow.MlflowClient,
        "log_batch",
        lambda client, run_id, **data: (calls.append(len(data.get("metrics", ()))), plain(client, run_id, **data)),
    )
    with open_run(tmp_path) as run:
        assert run.flush(30)
        calls.clear()
        for step in range(12):
            run.log_metrics({f"dev/f1/label {index}": 0.5 for index in range(100)}, step)
        assert run.flush(30)

    assert calls[:2] == [1000, 200]
    assert len(history(database, run.run_id, "dev/f1/label 99")) == 12


def test_a_metric_name_that_mlflow_refuses_raises_in_the_call(database, tmp_path):
    with open_run(tmp_path) as run:
        for name in ("a(b", "a//b", "../a", "a" * 251, "", "a\n", "a\0"):
            with pytest.raises(ValueError, match="metric name must be"):
                run.log_metrics({name: 1.0}, 0)
        with pytest.raises(TypeError):
            run.log_metrics({"train/loss": None}, 0)


def test_datasets_are_inputs_with_context_full_digest_and_a_source_that_mlflow_can_load(database, tmp_path):
    import mlflow

    with open_run(tmp_path) as run:
        for _ in range(2):
            run.log_dataset("starter", "ab" * 32, "train", "trainer/data/starter", {"rows": 900}, ("joy", "grief"))
        run.log_dataset("goemotions", "cd" * 32, "test", "google/go_emotions:simplified@1a2b", {"rows": 5427})

    inputs = {item.dataset.name: item for item in database.get_run(run.run_id).inputs.dataset_inputs}
    assert inputs.keys() == {"starter", "goemotions"}
    assert inputs["starter"].dataset.digest == "ab" * 16
    assert "ab" * 32 in inputs["starter"].dataset.profile
    assert inputs["starter"].tags[0].value == "train"
    columns = json.loads(inputs["starter"].dataset.schema)["mlflow_colspec"]
    assert [(one["name"], one["type"]) for one in columns] == [
        ("text", "string"),
        ("joy", "double"),
        ("grief", "double"),
    ]
    assert json.loads(inputs["starter"].dataset.source) == {"uri": "trainer/data/starter"}
    source = mlflow.data.get_source(inputs["goemotions"])
    assert (source.path, source.config_name, source.revision) == ("google/go_emotions", "simplified", "1a2b")


def test_a_model_is_an_output_of_the_run_and_one_version_however_often_it_is_logged(database, tmp_path, saved_model):
    import mlflow

    with open_run(tmp_path / "runs") as run:
        run.log_metrics({"test/macro_f1": 0.53, "dev/macro_f1": 0.5}, 7)
        for _ in range(2):
            run.log_model(saved_model, 7)
            assert run.register("emotions") == 1
    with open_run(tmp_path / "runs", resume=run.run_id) as again:
        again.log_model(saved_model, 8)
        assert again.register("emotions") == 1

    outputs = database.get_run(run.run_id).outputs.model_outputs
    model = database.get_logged_model(outputs[0].model_id)
    assert len(outputs) == 1
    assert model.status == "READY"
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "emotions", "version": "1"}]
    assert {point.key: point.value for point in model.metrics} == {"test/macro_f1": 0.53}
    assert history(database, run.run_id, "test/macro_f1")[0][:2] == (7, 0.53)
    assert len(history(database, run.run_id, "test/macro_f1")) == 1
    for uri in (f"runs:/{run.run_id}/model", model.model_uri, "models:/emotions/1"):
        loaded = mlflow.pyfunc.load_model(uri)
        assert list(loaded.predict(["a", "abc"])) == [1, 3]
        assert loaded.metadata.run_id == run.run_id
        assert loaded.metadata.model_id == model.model_id
    assert [version.version for version in database.search_model_versions("name = 'emotions'")] in ([1], ["1"])


def test_no_password_reaches_the_server_or_the_folder(database, tmp_path):
    with pytest.raises(ValueError, match="boom"), open_run(tmp_path, parameters={"data": "s3://k:hunter2@b/x"}) as run:
        run.set_tags({"origin": "https://ann:hunter2@host/x"})
        run.log_dataset("d", "00", "train", "https://ann:hunter2@host/x", {})
        raise ValueError("boom at http://ann:hunter2@host")

    stored = database.get_run(run.run_id)
    assert "hunter2" not in repr(stored.to_dictionary())
    assert "hunter2" not in (run.folder / "events.jsonl").read_text()
    assert stored.data.params["cfg.data"] == "s3://b/x"


def test_the_null_tracker_records_nothing(tmp_path):
    null: Tracker = NullTracker("r", tmp_path)
    null.log_metrics({"train/loss": 1.0}, 0)

    assert null.register("emotions") is None
    assert null.flush(0)
    assert list(tmp_path.iterdir()) == []
