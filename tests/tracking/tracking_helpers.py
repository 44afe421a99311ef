"""Shared by the tests of tracking: curves as stored and as logged, a backend that fails, a server to stop."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.tracking.event_log import EventLog

_SERVER_PATH = os.environ.get("MLFLOW_SERVER_PATH")
"""Set by `make test-mlflow`; empty for the version of the environment."""


def history(client, run_id, name):
    return [(point.step, point.value, point.timestamp) for point in client.get_metric_history(run_id, name)]


def logged_history(folder, name):
    with EventLog(folder) as log:
        return [
            (event.content["step"], event.content["metrics"][name], event.time)
            for event in log.events()
            if event.kind == "metrics" and name in event.content["metrics"]
        ]


@contextlib.contextmanager
def away(run):
    """The store of `run` fails like a server that is down."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run._backend, "send", refuse_connection)
        yield


def refuse_connection(*_):
    raise ConnectionError("http://ann:hunter2@host refused")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Server:
    """A real `mlflow server` on a free port of this machine, to be stopped and started again.

    It is of the version in the folder MLFLOW_SERVER_PATH, else of the tests' own. store: a database to begin with.
    """

    def __init__(self, folder: Path, store: Path | None = None, workers: int = 1):
        self.folder = folder
        self.workers = workers
        if store is not None and _SERVER_PATH is None:  # another version makes its own tables
            shutil.copy(store, folder / "mlflow.db")
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        words = ["server", "--workers", str(self.workers), "--host", "127.0.0.1", "--port", str(self.port)]
        stores = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        artifact_store = ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        if _SERVER_PATH is not None:
            environment["PYTHONPATH"] = _SERVER_PATH
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *words, *stores, *artifact_store],
                env=environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(1200):
            if self._is_healthy():
                return
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            time.sleep(0.1)
        raise AssertionError((self.folder / "server.log").read_text())

    def stop(self):
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _is_healthy(self):
        try:
            asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            asked.request("GET", "/health")
            return asked.getresponse().status == 200
        except OSError:
            return False
        finally:
            asked.close()


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("nothing happened in 30 seconds")
