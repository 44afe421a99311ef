"""The page for people, JSON and Prometheus, and the webhook."""

import asyncio
import json
import time

import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature

from trainer.service.health.app import make_app
from trainer.service.health.checks import Result
from trainer.service.health.notices import Announcer, Poster
from trainer.service.health.watch import Watched

SECRET = "a secret"


class Said(Poster):
    def __init__(self):
        super().__init__("")
        self.texts = []
        self.announcer = Announcer("emotions", "https://x")

    def say(self, text):
        self.texts.append(text)


@pytest.fixture
def said():
    return Said()


def page(said, *states):
    results = {f"part {i}": Result(state, f"<b>{state}</b>", {f"number_{i}": i}) for i, state in enumerate(states)}
    parts = {name: Watched(name, lambda found=found: found) for name, found in results.items()}
    for part in parts.values():
        part.run()
    return make_app(parts, said.announcer, said, prefix="/mlflow", webhook_secret=SECRET)


def call(app, path, method="GET", query=b"", body=b"", headers=()):
    """Status and body of an answer of an ASGI application."""
    sent = []
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
    }

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent).decode()


@pytest.mark.parametrize(
    ("states", "worst", "code"),
    [
        (("ok", "ok"), "ok", 200),
        (("ok", "warning"), "warning", 200),
        (("dead", "warning", "ok"), "dead", 503),
    ],
)
def test_the_worst_part_decides(said, states, worst, code):
    app = page(said, *states)

    status, text = call(app, "/mlflow/status", query=b"format=json")
    content = json.loads(text)

    assert (status, content["status"]) == (code, worst)
    assert [part["state"] for part in content["parts"]] == list(states)
    assert call(app, "/mlflow/status")[0] == code


def test_the_page_is_escaped_and_links_below_the_prefix(said):
    _, text = call(page(said, "ok"), "/mlflow/status")

    assert "&lt;b&gt;ok&lt;/b&gt;" in text
    assert 'href="/mlflow/status/metrics"' in text


def test_metrics(said):
    status, text = call(page(said, "ok", "dead"), "/mlflow/status/metrics")

    assert status == 200
    assert {'service_part_state{part="part 0"} 0.0', 'service_part_state{part="part 1"} 2.0', "number_1 1.0"} <= set(
        text.splitlines()
    )


def webhook(app, content, secret=SECRET):
    body, moment = json.dumps(content), str(int(time.time()))
    headers = {
        "X-MLflow-Delivery-Id": "an id",
        "X-MLflow-Timestamp": moment,
        "X-MLflow-Signature": _generate_hmac_signature(secret, "an id", moment, body),
    }
    return call(app, "/webhook", "POST", body=body.encode(), headers=headers.items())[0]


def test_a_genuine_webhook_is_taken(said):
    app = page(said, "ok")
    entry = {"kind": "promoted", "version": 7, "replaced": None, "parent": 0, "why": "better", "by": "anna"}
    event = {
        "entity": "model_version",
        "action": "created",
        "data": {"name": "emotions-ledger", "version": "1", "tags": {"entry": json.dumps(entry)}},
    }

    assert webhook(app, event, secret="another") == 401
    assert said.announcer.due(time.monotonic() + 60) == []
    assert webhook(app, event) == 202
    assert len(said.announcer.due(time.monotonic() + 60)) == 1
    assert webhook(app, {}) == 400
    assert webhook(app, []) == 400


def test_only_these_paths_exist(said):
    assert call(page(said, "ok"), "/status")[0] == 404
    assert call(page(said, "ok"), "/webhook")[0] == 405
