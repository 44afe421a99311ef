"""What the run that `mlflow run . -e serve` makes says, and its status."""

import pytest

from registry import serve
from registry.config import ServeConfig
from trainer.core.errors import SettingsError
from trainer.reporting import console


@pytest.fixture
def run(tracking_uri, monkeypatch):
    import mlflow

    client = mlflow.MlflowClient(tracking_uri)
    run_id = client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    return lambda: client.get_run(run_id)


def test_it_says_what_is_served(run):
    serve._describe_run(run().info.run_id, ServeConfig(port=5002), console.make(quiet=True))

    assert run().info.run_name == "serve emotions@champion"
    assert "port 5002" in run().data.tags["mlflow.note.content"]


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt(), "FINISHED"), (SystemExit(128 + 15), "FINISHED"), (SettingsError("`port`"), "RUNNING")],
)
def test_a_stop_signal_finishes_it(run, error, status):
    """After an error, `mlflow run` itself makes it FAILED."""
    serve._end_run(error)

    assert run().info.status == status
    assert ("error" in run().data.tags) == (status == "RUNNING")


def test_a_server_that_is_away_stops_nothing(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    serve._describe_run("0123", ServeConfig(), console.make())
    serve._end_run(KeyboardInterrupt())

    assert capsys.readouterr().err.count("0123") == 2
