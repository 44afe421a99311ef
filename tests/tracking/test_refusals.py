"""What is said of a right that an account lacks, and which calls look for it."""

import logging

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException

from trainer.core.errors import TrackingError
from trainer.tracking import refusals
from trainer.tracking.connection import readable_errors
from trainer.tracking.refusals import check_registry_right, explain_refusal
from trainer.tracking.run import RejectedEventsError, open_run
from trainer.tracking.run_lookup import experiment_id


def answer(endpoint, status, body="Permission denied"):
    return MlflowException(
        f"API request to endpoint {endpoint} failed with error code {status} != 200. Response body: '{body}'"
    )


def artifact_answer(status, method="PUT"):
    response = requests.Response()
    response.status_code = status
    url = "https://host/api/2.0/mlflow-artifacts/artifacts/1/a/artifacts/x"
    return requests.HTTPError(f"{status} Client Error: Forbidden for url: {url}", response=response)


@pytest.fixture(autouse=True)
def _user(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ben")


@pytest.mark.parametrize(
    ("error", "right"),
    [
        (answer("/api/2.0/mlflow/runs/create", 403), "writer"),
        (answer("/api/2.0/mlflow/logged-models/m-1", 403), "writer"),
        (artifact_answer(403), "writer"),
        (answer("/api/2.0/mlflow/runs/get", 403), "reader"),
        (answer("/api/2.0/mlflow/registered-models/alias", 403), "promoter"),
        (answer("/api/2.0/mlflow/model-versions/create", 403), "promoter"),
        (answer("/api/2.0/mlflow/model-versions/search", 403), "reader"),
        (
            RestException(
                {"error_code": "PERMISSION_DENIED", "message": "Permission denied: this needs the role king."}
            ),
            "the role king",
        ),
    ],
    ids=str,
)
def test_missing_right_names_role_and_user(error, right):
    reason, advice = explain_refusal(error)

    assert "403" in reason
    assert right in reason
    assert "ben" in advice


def test_wrong_password_is_told_from_a_missing_right():
    reason, advice = explain_refusal(answer("/api/2.0/mlflow/runs/log-batch", 401, "You are not authenticated."))

    assert "401" in reason
    assert "ben" in reason
    assert "MLFLOW_TRACKING_PASSWORD" in advice


def test_host_name_is_told_from_a_missing_right():
    _, advice = explain_refusal(answer("/api/2.0/mlflow/runs/get", 403, "Invalid Host header - possible attack"))

    assert "SERVICE_HOST" in advice


@pytest.mark.parametrize("error", [answer("/x", 404), answer("/x", 500), ConnectionError("refused"), ValueError("x")])
def test_other_errors_are_no_refusals(error):
    assert explain_refusal(error) is None


def test_message_of_a_refusal_is_short(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "b" * 500)
    body = RestException({"error_code": "PERMISSION_DENIED", "message": "Permission denied: " + "x" * 5000})

    class Backend:
        uri = "https://" + "h" * 500

    with pytest.raises(TrackingError) as raised, readable_errors(Backend()):
        raise body
    assert len(str(raised.value)) <= 300


class Server:
    uri = "https://host"


@pytest.mark.parametrize(
    ("answers", "refused"),
    [
        ({}, False),
        ({"user": {"username": "ben", "is_admin": True}, "permission": "NO_PERMISSIONS"}, False),
        ({"user": {"username": "ben", "is_admin": False}}, False),
        ({"user": {"username": "ben", "is_admin": False}, "permission": "EDIT"}, False),
        ({"user": {"username": "ben", "is_admin": False}, "permission": "MANAGE"}, False),
        ({"user": {"username": "ben", "is_admin": False}, "permission": "READ"}, True),
        ({"user": {"username": "ben", "is_admin": False}, "permission": "NO_PERMISSIONS"}, True),
    ],
)
def test_right_to_register_is_asked_for(monkeypatch, answers, refused):
    monkeypatch.setattr(refusals, "_get", lambda *_: answers)

    if refused:
        with pytest.raises(TrackingError, match=r"emotions.*promoter.*ben"):
            check_registry_right(Server(), "emotions")
    else:
        check_registry_right(Server(), "emotions")


@pytest.mark.parametrize(("permission", "refused"), [("READ", False), ("MANAGE", False), ("NO_PERMISSIONS", True)])
def test_right_to_read_the_registry_is_asked_for(monkeypatch, permission, refused):
    answers = {"user": {"username": "ben", "is_admin": False}, "permission": permission}
    monkeypatch.setattr(refusals, "_get", lambda *_: answers)

    if refused:
        with pytest.raises(TrackingError, match=r"emotions.*reader.*ben"):
            check_registry_right(Server(), "emotions", reads=True)
    else:
        check_registry_right(Server(), "emotions", reads=True)


def test_experiment_is_found_by_who_may_not_create_one(database, monkeypatch):
    from trainer.tracking.backend import MlflowBackend

    backend = MlflowBackend(database, "sqlite://")
    known = database.create_experiment("known")
    refused = answer("/api/2.0/mlflow/experiments/create", 403)

    def refuse(*_, **__):
        raise refused

    monkeypatch.setattr(database, "create_experiment", refuse)

    assert experiment_id(backend, "known") == known
    with pytest.raises(MlflowException) as raised:
        experiment_id(backend, "new")
    assert raised.value is refused


def _refuse_params(run):
    send = run._backend.send

    def refuse(folder, batch):
        if batch[0].kind == "params":
            raise answer("/api/2.0/mlflow/runs/log-batch", 403)
        send(folder, batch)

    run._backend.send = refuse


def test_run_with_refused_events_is_an_error_at_its_end(database, tmp_path):
    opened = open_run(tmp_path / "runs")
    run = opened.__enter__()
    _refuse_params(run)
    run.log_params({"a": 1})

    with pytest.raises(RejectedEventsError, match=r"403.*writer.*ben.*sync"):
        opened.__exit__(None, None, None)
    assert database.get_run(run.run_id).info.status == "FINISHED"


def test_nested_run_leaves_refused_events_to_its_command(database, tmp_path, monkeypatch, caplog):
    parent = database.create_run("0").info.run_id
    nested = database.create_run("0", tags={"mlflow.parentRunId": parent}).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", nested)

    with caplog.at_level(logging.WARNING), open_run(tmp_path / "runs") as run:
        _refuse_params(run)
        run.log_params({"a": 1})

    assert "writer" in caplog.text
    assert database.get_run(nested).info.status == "FINISHED"
