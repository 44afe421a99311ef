"""The first contact with a tracking server."""

import os
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException, RestException
from tracking_helpers import free_port

from trainer.core.errors import TrackingError
from trainer.tracking import connection
from trainer.tracking.connection import connect, readable_errors
from trainer.tracking.run import open_run


def test_a_server_that_refuses_connections_at_the_start_is_an_error_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:hunter2@127.0.0.1:{free_port()}")

    with pytest.raises(TrackingError, match=r"http://127.*refused") as raised:
        open_run(tmp_path).__enter__()
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__
    assert "MLFLOW_TRACKING_URI" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_silent_at_the_start_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "_START_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(TrackingError, match=r"no answer within 0.2 seconds"):
            open_run(tmp_path).__enter__()
    for thread in threading.enumerate():
        if thread.name == "connection-probe":
            thread.join()


def test_importing_costs_no_slow_library():
    code = "import sys, trainer.tracking.run; print({'mlflow', 'numpy', 'torch', 'psutil'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("uri", "error", "advice"),
    [
        ("http://h", RestException({"error_code": "UNAUTHENTICATED"}), "MLFLOW_TRACKING_USERNAME"),
        ("http://h", RestException({"error_code": "PERMISSION_DENIED"}), "403.*permission"),
        ("http://h", MlflowException("error code 403. Response body: 'Invalid Host header'"), "SERVICE_HOST"),
        ("http://h", MlflowException("400 The plain HTTP request was sent to HTTPS port"), "https://"),
        ("http://h", MlflowException("too many 502 error responses"), "behind it"),
        ("http://h", MlflowException("Tunnel connection failed: 407 Proxy Authentication Required"), "HTTPS_PROXY"),
        ("sqlite:///m.db", MlflowException("out-of-date; run 'mlflow db upgrade'"), "mlflow db upgrade sqlite"),
        ("http://h", MlflowException("the response body was not in a valid JSON format"), "no MLflow server"),
        ("127.0.0.1:5000", MlflowException("file store"), "MLFLOW_TRACKING_URI=http://127.0.0.1:5000"),
        ("postgres://h/db", MlflowException("got unsupported URI"), "postgresql://"),
        ("ftp://h", MlflowException("got unsupported URI"), "MLFLOW_TRACKING_URI to http://"),
        ("http://h", MlflowException("refused"), "mlflow server"),
    ],
)
def test_the_advice_follows_the_cause(monkeypatch, uri, error, advice):
    def fail(_):
        raise error

    monkeypatch.setattr(connection, "_answering_client", fail)
    with pytest.raises(TrackingError, match=advice):
        connect(uri)


def test_a_server_that_becomes_a_login_page_is_one_short_message():
    page = f"API request to endpoint /api/2.0 failed with error code 200. Response body: '<html>{'<p>' * 1000}'"
    backend = SimpleNamespace(uri=f"https://ann:hunter2@host/{'very-long-path/' * 30}")

    with pytest.raises(TrackingError, match="MlflowException: API request") as caught, readable_errors(backend):
        raise MlflowException(page)

    assert len(str(caught.value)) <= 300
    assert "hunter2" not in str(caught.value)


def test_the_loser_of_a_race_for_a_new_database_tries_again(database, monkeypatch):
    import mlflow

    failures = iter([MlflowException("(sqlite3.OperationalError) duplicate column name: step")] * 2)
    plain = mlflow.MlflowClient.search_experiments

    def search(client, **arguments):
        for error in failures:
            raise error
        return plain(client, **arguments)

    monkeypatch.setattr(mlflow.MlflowClient, "search_experiments", search)
    monkeypatch.setattr(connection._answering_client.retry, "sleep", lambda _: None)
    assert connect().client.search_experiments()


_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


@pytest.mark.parametrize(
    ("given", "relies", "used"), [(None, False, "5"), (None, True, "1"), ("5", True, "1"), ("3", True, "3")]
)
def test_only_what_has_the_event_log_behind_it_is_repeated_less_by_mlflow(database, monkeypatch, given, relies, used):
    for name in connection._MLFLOW_SETTINGS:
        monkeypatch.setenv(name, "")  # restores what the call sets
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "2")
    if given:
        monkeypatch.setenv(_RETRIES, given)
    if relies:
        connection.rely_on_event_log()
    connect()
    assert os.environ[_RETRIES] == used
