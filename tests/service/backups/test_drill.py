"""The scripts on the running service: a backup while clients log, the loss of everything, and the restore."""

import json
import os
import subprocess
import threading

import pytest

from tests.serving.serving_helpers import TEXTS, make_classifier, write_model
from trainer.core.environment import child_environment
from trainer.service.backups.restore import delete
from trainer.service.connections import open_stores

pytestmark = pytest.mark.service
NAME = "drill"


@pytest.fixture
def client(service, monkeypatch):
    """A client of the service, as the administrator."""
    import mlflow
    from mlflow import MlflowClient

    for name, value in service.environment().items():
        monkeypatch.setenv(name, value)
    mlflow.set_tracking_uri(service.url)
    return MlflowClient(service.url)


@pytest.fixture
def stores(service):
    ports = {name: service.settings[f"SERVICE_{name.upper()}_PORT"] for name in ("postgres", "s3")}
    return open_stores(service.folder / "secrets", f"127.0.0.1:{ports['postgres']}", f"127.0.0.1:{ports['s3']}")


def script(service, root, name, *words):
    """Run a script of docker/ and return what it printed."""
    environment = child_environment() | service.settings | {"PATH": f"{root}/.venv/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        [root / "docker" / name, *words], env=environment, capture_output=True, text=True, check=False, cwd=root
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def add_champion(client, folder):
    """Log a tiny model of ours, register it, and make it the champion."""
    from trainer.tracking.registration import ModelWriter

    run = client.create_run(client.create_experiment(NAME))
    writer = ModelWriter(client)
    write_model(folder / "model", make_classifier(folder))
    writer.write(run, folder / "model", 0)
    client.set_terminated(run.info.run_id)
    client.set_registered_model_alias(NAME, "champion", str(writer.register(client.get_run(run.info.run_id), NAME)))


def champion_probabilities():
    import mlflow

    return mlflow.pyfunc.load_model(f"models:/{NAME}@champion").predict(TEXTS)


class Logging(threading.Thread):
    """Creates runs, each with a metric, then an artifact, until it is told to stop."""

    def __init__(self, client):
        super().__init__()
        self.client, self.stop, self.runs = client, threading.Event(), []

    def run(self):
        experiment = self.client.create_experiment(f"{NAME} logging")
        while not self.stop.wait(0.05):
            run_id = self.client.create_run(experiment).info.run_id
            self.client.log_text(run_id, run_id, "result.txt")
            self.client.log_metric(run_id, "uploaded", 1.0)  # after its artifact, as our uploader delivers them
            self.runs.append(run_id)


def test_service_comes_back_from_a_backup(service, client, stores, root, tmp_path):
    import mlflow

    add_champion(client, tmp_path)
    before = champion_probabilities()
    logging = Logging(client)
    logging.start()
    try:
        said = script(service, root, "backup.sh")
        script(service, root, "backup.sh")
    finally:
        logging.stop.set()
        logging.join()
    assert str(service.folder / "backups") in said
    assert json.loads((service.folder / "backups" / "last.json").read_text())["ok"] is True

    with stores.maintenance() as connection:
        connection.execute(f"drop database {stores.database} with (force)")
    delete(stores, stores.s3(), [one.key for one in stores.objects(stores.s3())])
    said = script(service, root, "restore.sh")

    assert "is not the password" not in said
    assert "cannot read" not in said
    service.wait_until_healthy()
    assert champion_probabilities().equals(before)
    experiment = client.get_experiment_by_name(f"{NAME} logging")
    restored = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    assert 0 < len(restored) <= len(logging.runs)
    for run_id in [run_id for run_id, run in restored.items() if run.data.metrics]:
        assert mlflow.artifacts.load_text(f"runs:/{run_id}/result.txt") == run_id

    said = script(service, root, "gc.sh")

    assert "artifacts of no run or model" in said
    assert "Nothing was changed" in said
