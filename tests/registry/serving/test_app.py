"""HTTP: MLflow's protocol while the alias moves, limits, health, metrics and the webhook."""

import http.client
import json
import threading
import time

import mlflow
import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature
from served_models import SECRET, RunningServer, champion

from registry.serving.app import Limits
from trainer.core.errors import ModelError

TEXTS = {"inputs": ["so proud of you", "i miss her"]}


@pytest.fixture
def served(client):
    one = champion()
    one.look()
    return one


@pytest.fixture
def server(served):
    with RunningServer(served) as running:
        yield running


class Clients:
    """Threads that send requests without a pause; `answers` has status and version of each."""

    def __init__(self, server, number):
        self._server, self._stop, self.answers = server, threading.Event(), []
        self._threads = [threading.Thread(target=self._send) for _ in range(number)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self):
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        while not self._stop.is_set():
            try:
                status, headers, _ = self._server.score(TEXTS, connection)
                self.answers.append((status, headers["X-Model-Version"]))
            except OSError as error:
                self.answers.append((0, repr(error)))
        connection.close()

    def wait_for(self, version):
        end = time.monotonic() + 60
        while (200, version) not in self.answers[-20:]:
            assert time.monotonic() < end, self.answers[-3:]
            time.sleep(0.02)


def test_no_request_fails_while_the_alias_moves(client, served, server):
    threading.Thread(target=served.watch, daemon=True).start()
    with Clients(server, 3) as clients:
        clients.wait_for("emotions/1")
        for version in "234":
            client.set_registered_model_alias("emotions", "champion", version)
            served.wake()
            clients.wait_for(f"emotions/{version}")

    assert {status for status, _ in clients.answers} == {200}
    assert {version for _, version in clients.answers} == {f"emotions/{number}" for number in range(1, 5)}


def test_answers_are_those_of_mlflow(server, folders):
    status, _, body = server.score(TEXTS | {"params": {"top_k": 2}})

    stock = mlflow.pyfunc.load_model(str(folders[0])).predict(TEXTS["inputs"], {"top_k": 2})
    assert (status, json.loads(body)) == (200, {"predictions": stock.to_dict("records")})


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ('{"inputs": ["cut', "application/json", 400),
        ('{"inputs": [5]}', "application/json", 400),
        ('{"inputs": ["a"], "params": {"threshold": 2}}', "application/json", 400),
        ("a", "", 415),
        ("a", "text/plain", 415),
        ("text\na\n", "text/csv", 200),
        ("x" * 10_001, "application/json", 413),
    ],
)
def test_bad_requests_are_refused_without_a_traceback(server, body, kind, expected):
    status, _, text = server.call("POST", "/invocations", body, {"Content-Type": kind})

    assert status == expected
    assert "Traceback" not in text
    assert "site-packages" not in text


def test_a_body_without_a_length_is_limited(server):
    status, *_ = server.call("POST", "/invocations", iter([b"x" * 6000] * 3), {"Content-Type": "application/json"})
    assert status == 413


def test_a_request_that_takes_too_long_is_ended(served):
    with RunningServer(served, limits=Limits(body_bytes=100, seconds=0.05)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.putrequest("POST", "/invocations")
        connection.putheader("Content-Length", "50")
        connection.endheaders(b"slow")
        assert connection.getresponse().status == 504
        connection.close()


def test_a_stop_answers_the_requests_that_have_begun(served):
    with RunningServer(served) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.putrequest("POST", "/invocations")
        body = json.dumps(TEXTS).encode()
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:5])
        while not server.server.server_state.tasks:
            time.sleep(0.01)
        server.server.should_exit = True
        connection.send(body[5:])
        assert connection.getresponse().status == 200
        connection.close()


def test_nothing_is_served_without_a_champion(client):
    client.delete_registered_model_alias("emotions", "champion")
    one = champion()
    one.look()
    with RunningServer(one) as server:
        status, headers, body = server.score(TEXTS)
        assert (status, bool(headers["Retry-After"])) == (503, True)
        assert "no alias `champion`" in body
        assert server.call("GET", "/ping")[0] == 503
        assert json.loads(server.call("GET", "/health")[2])["status"] == "waiting"


def test_health_and_metrics_tell_of_a_version_that_cannot_be_loaded(client, served, server):
    assert json.loads(server.call("GET", "/health")[2]) | {"loaded_at": ""} == {
        "status": "ok",
        "model": "emotions",
        "alias": "champion",
        "version": 1,
        "loaded_at": "",
        "problem": "",
    }
    served._load = lambda *_: (_ for _ in ()).throw(ModelError("Cannot load it."))
    client.set_registered_model_alias("emotions", "champion", "2")
    served.look()

    status, _, body = server.call("GET", "/health")
    server.score(TEXTS)
    metrics = server.call("GET", "/metrics")[2].splitlines()

    assert (status, json.loads(body)["status"], json.loads(body)["problem"]) == (200, "degraded", "Cannot load it.")
    assert {
        "serve_model_version 1.0",
        "serve_degraded 1.0",
        'serve_loads{result="ok"} 1.0',
        'serve_loads{result="failed"} 1.0',
        'serve_requests_total{status="200"} 1.0',
        "serve_request_seconds_count 1.0",
    } <= set(metrics)


def test_version_is_mlflows(server):
    assert server.call("GET", "/version")[2] == mlflow.__version__


def webhook(server, secret=SECRET, age=0):
    body, moment = '{"entity": "model_version_alias"}', str(int(time.time()) - age)
    signature = _generate_hmac_signature(secret, "an id", moment, body)
    headers = {"X-MLflow-Delivery-Id": "an id", "X-MLflow-Timestamp": moment, "X-MLflow-Signature": signature}
    return server.call("POST", "/webhook", body, headers)[0]


def test_a_genuine_webhook_wakes_the_watch(served, server):
    assert webhook(server, secret="another") == 401
    assert webhook(server, age=3600) == 401
    assert not served._wake.is_set()
    assert webhook(server) == 202
    assert served._wake.is_set()


def test_without_a_secret_there_is_no_webhook(served):
    with RunningServer(served, secret="") as server:
        assert webhook(server) == 404
