"""The store that clients write to themselves: each refusal is one clear line, before the training."""

from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException, RestException

from trainer.core.errors import TrackingError
from trainer.tracking.artifact_store import check_artifact_store

RUN_ID = "f" * 32
_KEYS = {"AWS_ACCESS_KEY_ID": "planted", "AWS_SECRET_ACCESS_KEY": "plan/ted"}
_NO_OTHERS = {
    "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    "AWS_CONFIG_FILE": "/nowhere",
    "AWS_EC2_METADATA_DISABLED": "true",
    "MLFLOW_S3_ENDPOINT_URL": "https://127.0.0.1:9",
}
_S3 = "Failed to list artifacts in s3://bucket/x: "


def refusal(location, error):
    def fail(_):
        raise error

    client = SimpleNamespace(list_artifacts=fail)
    run = SimpleNamespace(info=SimpleNamespace(run_id=RUN_ID, artifact_uri=f"{location}/{RUN_ID}/artifacts"))
    with pytest.raises(TrackingError, match="Cannot store artifacts in") as caught:
        check_artifact_store(client, run)
    message = str(caught.value)
    assert len(message) <= 300
    assert RUN_ID not in message
    return message


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (f"{_S3}The specified bucket does not exist", "bucket"),
        (
            f"{_S3}The request signature we calculated does not match the signature you provided.",
            "AWS_SECRET_ACCESS_KEY",
        ),
        (f"{_S3}The access key ID you provided does not exist in our records.", "AWS_ACCESS_KEY_ID"),
        (f"{_S3}Access Denied.", "right to write"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer certificate", "AWS_CA_BUNDLE"),
        ("anything else", "--serve-artifacts"),
    ],
)
def test_the_advice_follows_the_cause(text, advice):
    assert advice in refusal("s3://bucket", MlflowException(text))


@pytest.mark.parametrize("code", ["INTERNAL_ERROR", "PERMISSION_DENIED"])
def test_a_store_behind_the_server_is_the_concern_of_who_runs_it(code):
    message = refusal("mlflow-artifacts:/1", RestException({"error_code": code, "message": "no"}))
    assert "who runs the server" in message or "admin of the server" in message
    assert "--serve-artifacts" not in message


@pytest.mark.parametrize(
    ("variables", "advice"),
    [
        ({}, "AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "planted"}, "AWS_SECRET_ACCESS_KEY"),
        (_KEYS | {"MLFLOW_S3_ENDPOINT_URL": "http://ann:plan/ted@127.0.0.1:9"}, "MLFLOW_S3_ENDPOINT_URL"),
        (_KEYS | {"MLFLOW_S3_ENDPOINT_URL": "127.0.0.1:9"}, "MLFLOW_S3_ENDPOINT_URL"),
    ],
)
def test_what_boto3_says_of_wrong_variables(variables, advice, database, tmp_path, monkeypatch):
    from mlflow.store.artifact import s3_artifact_repo

    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    s3_artifact_repo._cached_get_s3_client.cache_clear()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CA_BUNDLE", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (_NO_OTHERS | variables).items():
        monkeypatch.setenv(name, value)
    experiment = database.create_experiment("on s3", artifact_location="s3://bucket")
    with pytest.raises(TrackingError, match=advice) as caught:
        check_artifact_store(database, database.create_run(experiment))
    assert "plan" not in str(caught.value)
    assert len(str(caught.value)) <= 300
