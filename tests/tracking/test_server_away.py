"""A real `mlflow server` that goes away and comes back."""

import pytest
from tracking_helpers import history, logged_history, wait_for

from trainer.core import artifacts
from trainer.tracking.run import open_run


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
