"""The champion served by the service and replaced under load, and the notices about it, with real parts and models."""

import contextlib
import http.client
import http.server
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import mlflow
import pytest

from registry.promotion import model_check
from tests.service import account_helpers
from trainer.core.environment import child_environment
from trainer.service import champion_server, connections
from trainer.service.settings import ServiceSettings

sys.path.append(str(Path(__file__).parents[1] / "registry"))
sys.path.append(str(Path(__file__).parents[1] / "registry" / "serving"))
from registry_helpers import FINE, Commands
from served_models import save

pytestmark = pytest.mark.service

TEXTS = {"inputs": ["so proud of you!", "thank you", "I am sad"]}
JSON = {"Content-Type": "application/json"}
SECONDS = 150
"""Longest time that something is waited for."""


class Served:
    """The served champion of a running service, and its three versions: two sound ones, then a damaged one."""

    def __init__(self, service, folders):
        self.service, self.folders = service, folders
        self.port = int(service.settings["SERVICE_SERVE_PORT"])

    def move(self, version):
        with mock.patch.dict(os.environ, self.service.environment()):
            mlflow.MlflowClient(self.service.url).set_registered_model_alias("emotions", "champion", str(version))

    def score(self, user="admin", password=None):
        """Ask through the edge."""
        answer = self.service.request("POST", "/serve/invocations", user, password, json=TEXTS)
        return answer.status_code, answer.headers.get("X-Model-Version", answer.text), answer

    def status(self):
        """HTTP status of the health page, and state and text of the part."""
        answer = self.service.request("GET", "/status?format=json", user=None)
        (part,) = [part for part in answer.json()["parts"] if part["name"] == "served champion"]
        return answer.status_code, part["state"], part["text"]

    def health(self):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("GET", "/health")
            return json.loads(connection.getresponse().read())

    def wait_for(self, **expected):
        """Wait until the server's own health has these fields."""
        wait_until(lambda: expected.items() <= self.health().items())


def wait_until(found):
    until = time.monotonic() + SECONDS
    while True:
        with contextlib.suppress(OSError):
            if found():
                return
        assert time.monotonic() < until
        time.sleep(0.1)


def register(service, folder):
    """Log a saved model through the service and make it a version."""
    client = mlflow.MlflowClient(service.url)
    run = client.create_run("0")
    client.log_artifacts(run.info.run_id, str(folder), "model")
    client.create_model_version("emotions", f"{run.info.artifact_uri}/model", run.info.run_id)
    client.set_terminated(run.info.run_id)


@pytest.fixture(scope="module")
def served(service_with_serve, tmp_path_factory):
    folders = [save(tmp_path_factory.mktemp("served") / "saved", temperature) for temperature in (1.0, 4.0, 8.0)]
    for weights in folders[2].rglob("*.safetensors"):
        weights.write_bytes(b"")
    with mock.patch.dict(os.environ, service_with_serve.environment()):
        mlflow.MlflowClient(service_with_serve.url).create_registered_model("emotions")
        for folder in folders:
            register(service_with_serve, folder)
    return Served(service_with_serve, folders)


@pytest.fixture(scope="module")
def patient(served):
    """The server again, with so long a pause between its looks at the alias that only a webhook can tell it in time."""
    service = served.service
    service.stop("serve")
    settings = ServiceSettings.read(environment=service.settings)
    tracking = f"127.0.0.1:{settings.tracking_port}"
    process = subprocess.Popen(
        [*champion_server.argv(settings, "127.0.0.1", served.port), "--poll_seconds=3600"],
        env=champion_server.environment(settings, service.folder / "secrets", tracking, child_environment()),
    )
    yield process
    process.terminate()
    process.wait()


class Clients:
    """Threads that send requests through the edge without a pause; `answers` has status and version of each."""

    def __init__(self, served):
        self._served, self._stop, self.answers = served, threading.Event(), []
        self._threads = [threading.Thread(target=self._send) for _ in range(2)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self):
        while not self._stop.is_set():
            try:
                self.answers.append(self._served.score()[:2])
            except OSError as error:
                self.answers.append((0, repr(error)))

    def wait_for(self, version):
        wait_until(lambda: (200, f"emotions/{version}") in self.answers[-4:])


def test_without_a_champion_the_health_page_warns(served):
    """A new service has none, and is well."""
    wait_until(lambda: served.status()[1] != "dead")

    assert served.status()[:2] == (200, "warning")
    assert "champion" in served.status()[2]
    assert served.score()[0] == 503


def test_every_account_gets_the_probabilities_of_the_model(served, tmp_path):
    accounts = account_helpers.make_accounts(served.service, "served", tmp_path)
    served.move(1)
    served.wait_for(version=1, status="ok")
    expected = mlflow.pyfunc.load_model(str(served.folders[0])).predict(TEXTS["inputs"])

    status, version, answer = served.score(*accounts["reader"])
    assert (status, version) == (200, "emotions/1")
    assert answer.json() == {"predictions": expected.to_dict("records")}
    assert served.score(user=None)[0] == 401
    assert served.score(accounts["reader"][0], "a wrong password")[0] == 401


def test_a_damaged_version_leaves_the_one_before_and_a_lost_webhook_is_made_up_for(served):
    served.move(1)
    served.wait_for(version=1, status="ok")
    served.move(3)
    served.wait_for(version=1, status="degraded")
    assert served.score()[:2] == (200, "emotions/1")
    wait_until(lambda: served.status()[2].startswith("version 1 of emotions: "))
    assert served.status()[:2] == (200, "warning")

    settings = served.service.settings
    addresses = (f"127.0.0.1:{settings[f'SERVICE_{name}_PORT']}" for name in ("POSTGRES", "S3"))
    stores = connections.open_stores(served.service.folder / "secrets", *addresses)
    with stores.connect() as database:  # no webhook tells of it
        database.execute("update registered_model_aliases set version = 2 where alias = 'champion'")
    served.wait_for(version=2, status="ok")
    assert served.score()[:2] == (200, "emotions/2")


def test_no_request_fails_while_the_alias_moves_and_the_tracking_server_dies(served, patient):
    served.move(1)
    served.wait_for(version=1, status="ok")
    with Clients(served) as clients:
        for version in (2, 1):
            served.move(version)
            clients.wait_for(version)
        served.service.kill("tracking")
        answered = len(clients.answers)
        wait_until(lambda: len(clients.answers) > answered + 10)
        served.service.wait_until_healthy()

    assert {answer for answer in clients.answers if answer[0] != 200} == set()


def test_a_request_that_has_begun_is_answered_after_a_stop_signal(served, patient):
    served.move(1)
    served.wait_for(version=1, status="ok")
    body = json.dumps(TEXTS).encode()
    login = served.service.environment()
    import requests.auth

    authorization = requests.auth._basic_auth_str("admin", login["MLFLOW_TRACKING_PASSWORD"])
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)) as connection:
        connection.putrequest("POST", "/invocations")
        for name, value in {**JSON, "Content-Length": str(len(body)), "Authorization": authorization}.items():
            connection.putheader(name, value)
        connection.endheaders(body[:10])
        served.health()  # answered after the server has read that
        patient.terminate()
        wait_until(lambda: not _listens(served.port))
        connection.send(body[10:])
        answer = connection.getresponse()
        assert (answer.status, answer.headers["X-Model-Version"]) == (200, "emotions/1")
        answer.read()

    assert patient.wait(timeout=SECONDS) == 128 + 15


def _listens(port):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with contextlib.closing(connection), contextlib.suppress(ConnectionRefusedError):
        connection.connect()
        return True
    return False


class Chat:
    """A team's chat that holds each text until `free` is set."""

    def __init__(self):
        self.texts, self.held, self.free = queue.Queue(), threading.Event(), threading.Event()
        chat = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
                chat.held.set()
                assert chat.free.wait(SECONDS)
                self.send_response(200)
                self.end_headers()
                chat.texts.put(text)

            def log_message(self, *_):
                """Be quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def wait_for(self, beginning):
        """Return the next text that begins so. A text that was held for long comes again, and alerts come between."""
        while not (text := self.texts.get(timeout=SECONDS)).startswith(beginning):
            pass
        return text

    def close(self):
        self.free.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def chat(served):
    """The chat of the service's team."""
    one, service = Chat(), served.service
    url = service.folder / "secrets" / "notice_url"
    url.touch(mode=0o600)
    url.write_text(one.url)
    service.stop("health")
    service.start_part("health")
    port = int(service.settings["SERVICE_HEALTH_PORT"])
    wait_until(lambda: _listens(port))
    yield one
    one.close()
    url.unlink()


def test_the_team_is_told_of_decisions_and_holds_no_command_up(served, chat, tmp_path, monkeypatch):
    service = served.service
    for name, value in service.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(model_check, "check_model", lambda *_: FINE)
    monkeypatch.chdir(tmp_path)
    client = mlflow.MlflowClient(service.url)
    client.delete_registered_model_alias("emotions", "champion")  # it has no scores to compare with
    assert chat.held.wait(SECONDS)

    commands = Commands(client, tmp_path)
    assert commands.promote("--run_id", commands.run(0.9)) == 0, commands.text
    assert commands.promote("--run_id", commands.run(0.7, seed=2)) == 0, commands.text
    assert chat.texts.empty()  # both commands have ended, and the chat still holds the first text

    chat.free.set()
    chat.wait_for("emotions: the alias champion was removed by hand")
    chat.wait_for("emotions: version 4 is champion now")
    refused = chat.wait_for("emotions: version 5 was refused by the gate; version 4 stays champion. Decided by admin")
    assert f"{service.url}/#/models/emotions/versions/5" in refused
