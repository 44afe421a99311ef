"""Writers and readers get no further by other spellings of what they may not do."""

import base64
import http.client
import json
import ssl
from urllib.parse import urlsplit

import pytest

from tests.service.scene import fresh
from trainer.service.accounts.roles import ADMIN

CREATE, LOG = "mlflow/registered-models/create", "mlflow/runs/log-batch"
PATHS = {
    "as documented": f"/api/2.0/{CREATE}",
    "of the pages": f"/ajax-api/2.0/{CREATE}",
    "of version 3": f"/ajax-api/3.0/{CREATE}",
    "two slashes": f"/api/2.0//{CREATE}",
    "two slashes first": f"//api/2.0/{CREATE}",
    "slash at the end": f"/api/2.0/{CREATE}/",
    "capitals": f"/API/2.0/{CREATE}",
    "capitals of the operation": "/api/2.0/mlflow/Registered-Models/Create",
    "semicolon": f"/api/2.0/{CREATE};a=b",
    "encoded slash": "/api/2.0/mlflow/registered-models%2fcreate",
    "encoded slash twice": "/api/2.0/mlflow/registered-models%252fcreate",
    "encoded letter": "/api/2.0/mlflow/%72egistered-models/create",
    "encoded line": f"/api/2.0/{CREATE}%0a",
    "other operation first": "/api/2.0/mlflow/experiments/search/../../registered-models/create",
    "encoded dots": "/api/2.0/mlflow/experiments/%2e%2e/registered-models/create",
    "page without a login": f"/health/../api/2.0/{CREATE}",
    "page without a login, encoded": f"/static-files/%2e%2e/api/2.0/{CREATE}",
}


@pytest.fixture
def raw(service, accounts):
    """Send a request with its path as written, as an account of a role; return the status."""
    address = urlsplit(service.url)
    context = ssl.create_default_context(cafile=str(service.ca_file))

    def send(role, method, path, content=b"", **headers):
        login = base64.b64encode(":".join(accounts[role]).encode()).decode()
        headers = {"Authorization": f"Basic {login}", **headers}
        opened = http.client.HTTPSConnection(address.hostname, address.port, timeout=60, context=context)
        try:
            opened.request(method, f"{address.path}{path}", content, headers)
            return opened.getresponse().status
        finally:
            opened.close()

    return send


def registered(senders, name):
    answer = senders[ADMIN].send("GET", "api/2.0/mlflow/registered-models/get", params={"name": name})
    assert answer.status_code in (200, 404)
    return answer.ok


@pytest.mark.parametrize("path", PATHS)
def test_path_does_not_register_a_model(raw, senders, path):
    name = fresh()

    status = raw("writer", "POST", PATHS[path], json.dumps({"name": name}), **{"Content-Type": "application/json"})

    assert status >= 300
    assert not registered(senders, name)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "post"])
@pytest.mark.parametrize("override", [{}, {"X-HTTP-Method-Override": "POST"}, {"X-HTTP-Method": "POST"}])
def test_method_does_not_register_a_model(raw, senders, method, override):
    name = fresh()

    raw("writer", method, f"/api/2.0/{CREATE}?name={name}&_method=POST", json.dumps({"name": name}), **override)

    assert not registered(senders, name)


def spellings(scene):
    metrics = {"metrics": [{"key": "bypass", "value": 1.0, "timestamp": 1, "step": 0}]}
    yield {"runId": scene.registered_run} | metrics
    yield {"run_uuid": scene.registered_run} | metrics
    yield {"run_id": scene.run, "runId": scene.registered_run} | metrics
    yield {"runId": scene.run, "run_id": scene.registered_run} | metrics
    yield {"run_id": scene.run, "run_uuid": scene.registered_run} | metrics
    yield {"run_id": [scene.registered_run]} | metrics
    yield json.dumps({"run_id": scene.registered_run} | metrics)


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize("query", ["", "?run_id={0}", "?run_uuid={0}"])
def test_fields_do_not_log_to_a_registered_run(raw, senders, scene, kind, query):
    for body in spellings(scene):
        path = f"/api/2.0/{LOG}{query.format(scene.run)}"
        raw("writer", "POST", path, json.dumps(body), **({"Content-Type": kind} if kind else {}))

    answer = senders[ADMIN].send("GET", "api/2.0/mlflow/runs/get", params={"run_id": scene.registered_run})
    assert answer.ok
    assert "bypass" not in answer.text


def test_no_way_to_files_of_a_registered_model(raw, senders, scene):
    model, api = scene.registered_model, "/api/2.0/mlflow-artifacts"
    whole = f"{scene.experiment}/models/{model}/artifacts/file.txt"
    stored = f"api/2.0/mlflow-artifacts/artifacts/{whole}"
    assert senders[ADMIN].send("PUT", stored, data=b"1").ok
    run = f"{scene.experiment}/{scene.registered_run}/artifacts"
    for method, path in [
        ("PUT", f"{api}/artifacts/{whole}"),
        ("PUT", f"/ajax-api/2.0/mlflow-artifacts/artifacts/{whole}"),
        ("PUT", f"/api/3.0/mlflow-artifacts/artifacts/{whole}"),
        ("PUT", f"{api}/artifacts/{whole.replace('/', '%2f')}"),
        ("PUT", f"{api}/artifacts/{whole.replace('/', '%252f')}"),
        ("PUT", f"{api}/artifacts/{whole.replace('/', '//')}"),
        ("PUT", f"{api}/artifacts//{whole}"),
        ("PUT", f"{api}//artifacts/{whole}"),
        ("PUT", f"{api}/artifacts/./{whole}"),
        ("PUT", f"{api}/artifacts/{scene.experiment}/x/../models/{model}/artifacts/file.txt"),
        ("PUT", f"{api}/artifacts/{scene.experiment}/x/%2e%2e/models/{model}/artifacts/file.txt"),
        ("PUT", f"{api}/artifacts/{scene.experiment}/%3f/../models/{model}/artifacts/file.txt"),
        ("PUT", f"{api}/artifacts/{scene.experiment}/models;a/{model}/artifacts/file.txt"),
        ("PUT", f"{api}/artifacts/{whole}/"),
        ("PUT", f"{api}/artifacts/{whole}%23x"),
        ("POST", f"{api}/artifacts/{whole}"),
        ("DELETE", f"{api}/artifacts/{whole}"),
        ("DELETE", f"{api}/artifacts/{scene.experiment}"),
        *[("POST", f"{api}/mpu/{step}/{whole}") for step in ("create", "complete", "abort")],
        ("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={scene.registered_run}&path=file.txt"),
        ("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={scene.run}&path=../../{run}/file.txt"),
    ]:
        raw("writer", method, path, b"2")  # 200 where it means another file

        for place in (stored, f"api/2.0/mlflow-artifacts/artifacts/{run}/file.txt"):
            assert senders[ADMIN].send("GET", place).content == b"1", path


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "webhooks"),
        ("POST", "webhooks/"),
        ("GET", "webhooks"),
        ("POST", "webhooks/x/test"),
        ("PATCH", "webhooks/x"),
    ],
)
@pytest.mark.parametrize("api", ["api/2.0", "ajax-api/2.0", "api/3.0"])
def test_webhooks_are_not_for_promoters(raw, senders, api, method, path):
    events = [{"entity": "REGISTERED_MODEL", "action": "CREATED"}]
    body = json.dumps({"name": fresh(), "url": "https://127.0.0.1/x", "events": events})

    assert raw("promoter", method, f"/{api}/mlflow/webhooks{path}", body, **{"Content-Type": "application/json"}) in (
        403,
        404,
    )
    assert "127.0.0.1/x" not in senders[ADMIN].send("GET", "api/2.0/mlflow/webhooks").text


@pytest.fixture
def without_role(service, senders):
    """An account that has no role."""
    from tests.service.scene import Sender

    name, password = fresh(), "a-long-password"
    senders[ADMIN].post("users/create", username=name, password=password)
    return Sender(service, name, password)


@pytest.mark.parametrize("path", ["graphql", "api/2.0/graphql", "ajax-api/2.0/graphql"])
def test_graphql_shows_nothing_to_an_account_without_a_role(without_role, senders, scene, path):
    read = f'query {{ mlflowGetRun(input: {{runId: "{scene.run}"}}) {{ run {{ info {{ experimentId }} }} }} }}'
    given = f'input: {{experimentIds: ["{scene.experiment}"]}}'
    searched = f"query {{ mlflowSearchRuns({given}) {{ runs {{ info {{ runId }} }} }} }}"
    allowed = senders["reader"].send("POST", "graphql", json={"query": read})
    assert allowed.json()["data"]["mlflowGetRun"]["run"]["info"]["experimentId"] == scene.experiment

    for query in (read, searched):
        answer = without_role.send("POST", path, json={"query": query})
        assert f'"{scene.experiment}"' not in answer.text
        assert scene.run not in answer.text.replace(query, "")


def test_an_account_without_a_role_reads_nothing(without_role, scene):
    for path, fields in {
        "api/2.0/mlflow/runs/get": {"run_id": scene.run},
        "api/2.0/mlflow/experiments/get": {"experiment_id": scene.experiment},
        "api/2.0/mlflow/registered-models/get": {"name": scene.name},
        f"api/2.0/mlflow/logged-models/{scene.model}": {},
        scene.artifact(f"{scene.run}/artifacts", "api"): {},
        "get-artifact": {"run_uuid": scene.run, "path": "file.txt"},
    }.items():
        assert without_role.send("GET", path, params=fields).status_code == 403, path
