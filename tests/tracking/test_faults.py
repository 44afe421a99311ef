"""A real `mlflow server` behind a network that loses requests and answers."""

import contextlib
import shutil
import sqlite3

import pytest
from fault_proxy import FaultProxy
from tracking_helpers import Server

from trainer.core.errors import TrackingError
from trainer.tracking.event_log import EventLog
from trainer.tracking.run import open_run, sync

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory, _migrated_store):
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(_migrated_store, folder / "mlflow.db")
    one = Server(folder)
    one.start()
    yield one
    one.stop()


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


def expect_complete(server, client, run):
    """The run is on the server, each of its events once."""
    stored = client.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    points = sorted((name, step) for name in ("test/macro_f1", "train/loss") for step in range(3))
    assert rows(server, run.run_id, "metrics", "key", "step") == points
    assert stored.data.tags["preset"] == "starter"
    assert files_of(client, run.run_id) == {"config.json": 11}
    assert files_of(client, run.run_id, "figures") == {"figures/curves.png": 18}
    assert [one.dataset.name for one in stored.inputs.dataset_inputs] == ["starter"]
    models = client.search_logged_models([stored.info.experiment_id], f"source_run_id = '{run.run_id}'")
    assert [model.status for model in models] == ["READY"]
    assert len(client.search_model_versions(f"name = 'model-{run.run_id}'")) == 1
    assert sync(run.folder) == 0


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
    expect_complete(server, client, run)
    experiment = client.get_experiment_by_name("lost answers").experiment_id
    assert [one.info.run_id for one in client.search_runs([experiment])] == [run.run_id]
    assert {one.info.run_id for one in client.search_runs(["0"])} == before


@pytest.mark.parametrize("method", ["PUT", "POST"])  # files; everything else
def test_a_portal_that_answers_with_success_loses_nothing(server, proxy, client, tmp_path, saved_model, method):
    with open_run(tmp_path, parameters={"seed": 1}) as run:
        proxy.once_each("portal", method=method)
        log_all(run, saved_model)
        run.flush(60)

    expect_complete(server, client, run)


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
    expect_complete(server, client, run)


def test_a_server_with_an_empty_database_is_named_and_the_folder_keeps_everything(server, proxy, client, tmp_path):
    with open_run(tmp_path) as run:
        pass
    with EventLog(run.folder) as log:
        log.append(run.run_id, "metrics", {"metrics": {"train/loss": 1.0}, "step": 9})
    before = (run.folder / "events.jsonl").read_bytes()
    with contextlib.closing(sqlite3.connect(server.folder / "mlflow.db")) as database:
        for table in ("tags", "params", "metrics", "latest_metrics"):
            database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (run.run_id,))
        database.execute("DELETE FROM runs WHERE run_uuid = ?", (run.run_id,))
        database.commit()

    with pytest.raises(TrackingError, match=f"{run.run_id} does not exist"):
        sync(run.folder)
    assert (run.folder / "events.jsonl").read_bytes() == before
    assert not (run.folder / "events.rejected.jsonl").exists()
