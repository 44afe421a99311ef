"""A real `mlflow server` behind a network that loses requests and answers."""

import contextlib
import sqlite3

import pytest
from fault_proxy import FaultProxy

from trainer.core.errors import TrackingError
from trainer.sync import main
from trainer.tracking.run import open_run, sync

pytestmark = pytest.mark.slow


@pytest.fixture
def proxy(server, monkeypatch):
    with contextlib.closing(FaultProxy(server.port)) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # as in training
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
        yield proxy


@pytest.fixture
def client(proxy):
    import mlflow

    return mlflow.MlflowClient(proxy.uri)


def log_all(run, saved_model):
    """Log events of every kind, and register the model."""
    for step in range(3):
        run.log_metrics({"train/loss": 1 / (step + 1), "test/macro_f1": 0.5 + step}, step)
    run.set_tags({"preset": "starter"})
    (run.folder / "figures").mkdir()
    for name in ("config.json", "figures/curves.png"):
        (run.folder / name).write_text(name)
        run.log_artifact(name)
    run.log_dataset("starter", "ab" * 32, "train", "trainer/data/starter", {"rows": 900})
    run.log_model(saved_model, 2)
    return run.register(f"model-{run.run_id}")


def rows(server, run_id, table, *columns):
    with contextlib.closing(sqlite3.connect(server.folder / "mlflow.db")) as database:
        query = f"SELECT {', '.join(columns)} FROM {table} WHERE run_uuid = ? AND key NOT LIKE 'system/%'"
        return sorted(database.execute(query, (run_id,)))


def files_of(client, run_id, parent=None):
    found = client.list_artifacts(run_id, parent)
    return {one.path: one.file_size for one in found if not one.is_dir}


def expect_complete(server, client, run_id, folder, model):
    """What `log_all` has logged is on the server, each of it once."""
    stored = client.get_run(run_id)
    assert stored.info.status == "FINISHED"
    points = sorted((name, step) for name in ("test/macro_f1", "train/loss") for step in range(3))
    assert rows(server, run_id, "metrics", "key", "step") == points
    assert stored.data.tags["preset"] == "starter"
    assert files_of(client, run_id) == {"config.json": 11}
    assert files_of(client, run_id, "figures") == {"figures/curves.png": 18}
    assert [one.dataset.name for one in stored.inputs.dataset_inputs] == ["starter"]
    models = client.search_logged_models([stored.info.experiment_id], f"source_run_id = '{run_id}'")
    assert [model.status for model in models] == ["READY"]
    assert len(client.search_model_versions(f"name = '{model}'")) == 1
    assert sync(folder) == 0


def test_an_answer_that_is_lost_repeats_nothing(server, proxy, client, tmp_path, saved_model):
    before = {run.info.run_id for run in client.search_runs(["0"])}
    seen = proxy.once_each("lost")
    with open_run(tmp_path, experiment="lost answers", parameters={"seed": 1}) as run:
        log_all(run, saved_model)
        run.flush(60)

    created = {
        "runs/create",
        "experiments/create",
        "logged-models",
        "registered-models/create",
        "model-versions/create",
    }
    assert {path.rpartition("mlflow/")[2] for path in seen} >= created
    expect_complete(server, client, run.run_id, run.folder, f"model-{run.run_id}")
    experiment = client.get_experiment_by_name("lost answers").experiment_id
    assert [one.info.run_id for one in client.search_runs([experiment])] == [run.run_id]
    assert {one.info.run_id for one in client.search_runs(["0"])} == before


@pytest.mark.parametrize("method", ["PUT", "POST"])  # files; everything else
def test_a_portal_that_answers_with_success_loses_nothing(server, proxy, client, tmp_path, saved_model, method):
    with open_run(tmp_path, parameters={"seed": 1}) as run:
        proxy.once_each("portal", method=method)
        log_all(run, saved_model)
        run.flush(60)

    expect_complete(server, client, run.run_id, run.folder, f"model-{run.run_id}")


def test_a_store_that_fails_to_the_end_leaves_a_finished_run_and_sync_completes_it(
    server, proxy, client, tmp_path, saved_model, caplog
):
    with open_run(tmp_path) as run:
        proxy.fault = lambda method, path: "away" if method == "PUT" else None
        log_all(run, saved_model)
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert len(rows(server, run.run_id, "metrics", "key", "step")) == 6
    assert f"output={run.folder}" in caplog.text
    assert "delivered" not in caplog.text

    proxy.fault = lambda method, path: None
    assert sync(run.folder) > 0
    expect_complete(server, client, run.run_id, run.folder, f"model-{run.run_id}")


def test_a_run_that_its_server_has_lost_is_named_and_made_again_on_request(
    server, proxy, client, tmp_path, saved_model, capsys
):
    with open_run(tmp_path / "runs", name="starter, bce, seed 1", parameters={"seed": 1}) as lost:
        log_all(lost, saved_model)
    before = (lost.folder / "events.jsonl").read_bytes()
    (lost.folder / "events.offset").unlink()
    forget(server, lost.run_id)

    assert main([f"--output={tmp_path}/runs"]) == 1
    assert f"{lost.run_id} does not exist" in " ".join(capsys.readouterr().err.split())
    assert (lost.folder / "events.jsonl").read_bytes() == before
    assert not (lost.folder / "events.rejected.jsonl").exists()

    assert main([f"--output={tmp_path}/runs", "--recreate=true"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name != lost.run_id
    expect_complete(server, client, folder.name, folder, f"model-{lost.run_id}")
    assert client.get_run(folder.name).info.run_name == "starter, bce, seed 1"
    assert main([f"--output={tmp_path}/runs", "--recreate=true"]) == 0


def forget(server, run_id):
    """Delete a run from the database, as a restored backup lacks it."""
    with contextlib.closing(sqlite3.connect(server.folder / "mlflow.db")) as database:
        for table in ("tags", "params", "metrics", "latest_metrics", "runs"):
            database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (run_id,))
        database.execute("DELETE FROM model_versions WHERE run_id = ?", (run_id,))
        database.commit()


def test_a_file_that_cannot_be_stored_is_an_error_before_the_training(proxy, tmp_path):
    with open_run(tmp_path) as run:
        (run.folder / "config.json").write_text("{}")
        proxy.fault = lambda method, path: "away" if method == "PUT" else None
        with pytest.raises(TrackingError, match=r"Cannot store artifacts .*mlflow-artifacts:.*503"):
            run.store_artifact("config.json")
        proxy.fault = lambda method, path: None
        run.store_artifact("config.json")
