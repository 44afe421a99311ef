"""A store with six versions of one registered model, and its decision log."""

import pytest
from decision_helpers import MODEL

from registry.store import aliases
from registry.store.decision_log import DecisionLog


@pytest.fixture
def client(tracking_uri, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setattr(aliases, "_RECHECK_SECONDS", 0)
    client = MlflowClient(tracking_uri)
    client.create_registered_model(MODEL)
    run = client.create_run("0")
    for _ in range(6):
        client.create_model_version(MODEL, f"runs:/{run.info.run_id}/model", run_id=run.info.run_id)
    return client


@pytest.fixture
def run_id(client):
    return client.get_model_version(MODEL, "1").run_id


@pytest.fixture
def log(client):
    return DecisionLog(client, MODEL)
