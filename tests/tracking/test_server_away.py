"""A real `mlflow server` that goes away and comes back."""

import shutil
import subprocess
import sys

import pytest
from tracking_parts import Server, history, logged_history, wait_for

from trainer.core import artifacts
from trainer.sync import main as sync_main
from trainer.tracking import tracker
from trainer.tracking.run import open_run, sync


@pytest.fixture(scope="module")
def server(tmp_path_factory, _migrated_store):
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(_migrated_store, folder / "mlflow.db")
    one = Server(folder)
    one.start()
    yield one
    one.stop()


@pytest.fixture
def client(server, monkeypatch):
    import mlflow

    if server.process is None:
        server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # as in training
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    return mlflow.MlflowClient(server.uri)


@pytest.mark.slow
def test_a_run_goes_on_while_its_server_is_away_and_loses_nothing(server, client, tmp_path, saved_model, caplog):
    with open_run(tmp_path, parameters={"seed": 1}) as run:
        run.log_metrics({"train/loss": 9.0}, 0)
        assert run.flush(60)
        server.stop()
        for step in range(1, 60):
            run.log_metrics({"train/loss": 1 / step, "train/learning_rate": step * 1e-5}, step)
        run.set_tags({"preset": "starter"})
        (run.folder / artifacts.CONFIG).write_text("{}")
        run.log_artifact(artifacts.CONFIG)
        run.log_dataset("starter", "ab" * 32, "train", "trainer/data/starter", {"rows": 900})
        run.log_metrics({"test/macro_f1": 0.5}, 60)
        run.log_model(saved_model, 60)
        wait_for(lambda: "Training continues" in caplog.text)
        server.start()
        assert run.register("outage") == 1

    stored = client.get_run(run.run_id)
    assert "answers again" in caplog.text
    assert stored.info.status == "FINISHED"
    for name in ("train/loss", "train/learning_rate"):
        assert history(client, run.run_id, name) == logged_history(run.folder, name)
    assert len(history(client, run.run_id, "train/loss")) == 60
    assert stored.data.tags["preset"] == "starter"
    assert [file.path for file in client.list_artifacts(run.run_id)] == ["config.json"]
    assert stored.inputs.dataset_inputs[0].dataset.name == "starter"
    assert client.get_logged_model(stored.outputs.model_outputs[0].model_id).status == "READY"


@pytest.mark.slow
def test_what_a_lost_server_did_not_get_is_synced_later(server, client, tmp_path, monkeypatch, caplog, capsys):
    monkeypatch.setattr(tracker, "_LIMITS", (0.5, 0.5))
    with open_run(tmp_path) as run:
        assert run.flush(60)
        server.stop()
        for step in range(20):
            run.log_metrics({"train/loss": 1 / (step + 1)}, step)

    assert f"output={run.folder}" in caplog.text
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    assert sync_main([f"--output={run.folder}"]) == 1
    assert "Cannot connect" in capsys.readouterr().err

    server.start()
    assert sync_main([f"--output={tmp_path}"]) == 0
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert history(client, run.run_id, "train/loss") == logged_history(run.folder, "train/loss")
    assert sync(run.folder) == 0


_WRITER = """
import pathlib, sys
from trainer.tracking.run import open_run
with open_run(pathlib.Path(sys.argv[1])) as run:
    run.flush(60)
    for step in range(1_000_000):
        run.log_metrics({"train/loss": 1 / (step + 1)}, step)
        if step % 1000 == 0:
            run.flush(60)
        if step == 3000:
            print(run.run_id, flush=True)
"""


@pytest.mark.slow
def test_after_kill_9_sync_delivers_every_metric_once_and_the_run_is_killed(server, client, tmp_path, capsys):
    with subprocess.Popen([sys.executable, "-c", _WRITER, tmp_path], stdout=subprocess.PIPE, text=True) as writer:
        run_id = writer.stdout.readline().strip()
        assert sync_main([f"--output={tmp_path}"]) == 0
        assert "in progress" in capsys.readouterr().out
        writer.kill()

    assert client.get_run(run_id).info.status == "RUNNING"
    assert sync_main([f"--output={tmp_path}"]) == 0
    stored = client.get_run(run_id)
    expected = logged_history(tmp_path / run_id, "train/loss")
    assert len(expected) > 3000
    assert history(client, run_id, "train/loss") == expected
    assert stored.info.status == "KILLED"
    assert "killed" in stored.data.tags[artifacts.TAG_ERROR]
    assert sync_main([f"--output={tmp_path}"]) == 0
