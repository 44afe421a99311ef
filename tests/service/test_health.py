"""The health page while parts are away, webhooks of the real server, and what clients cannot reach."""

import time

import pytest


@pytest.fixture
def client(service, monkeypatch):
    for name, value in service.environment().items():
        monkeypatch.setenv(name, value)
    from mlflow import MlflowClient

    return MlflowClient(service.url)


def status(service):
    """HTTP status and content of the health page, which needs no login."""
    answer = service.request("GET", "/status?format=json", user=None)
    return answer.status_code, {part["name"]: part["state"] for part in answer.json()["parts"]}


def wait_until(found, seconds=90):
    until = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < until
        time.sleep(0.5)
    return result


def test_the_health_page_names_a_dead_part_and_is_well_again(service):
    wait_until(lambda: set(status(service)[1].values()) <= {"ok", "warning"})
    service.stop("s3")
    try:
        _, parts = wait_until(lambda: (found := status(service))[0] == 503 and found)
        assert parts["object store"] == "dead"
        assert parts["database"] == "ok"
    finally:
        service.start_part("s3")
    wait_until(lambda: status(service)[0] == 200)


@pytest.mark.parametrize("path", ["/metrics", "/serve/metrics", "/serve/webhook", "/webhook"])
def test_metrics_and_webhooks_are_not_for_clients(service, path):
    for method in ("GET", "POST"):
        assert service.request(method, path, user=None).status_code in (401, 404, 405)


def test_the_webhooks_reach_the_health_page(service, client):
    """MLflow's own test call signs an example, which the health page verifies and does not announce."""
    (notices,) = [webhook for webhook in client.list_webhooks() if webhook.name == "notices"]

    assert client.test_webhook(notices.webhook_id).response_status == 202
