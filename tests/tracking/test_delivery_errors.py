"""Which errors of a server are permanent, so that the event is rejected, and which are retried."""

import json

import pytest
import requests
import sqlalchemy
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import ErrorCode
from mlflow.store.db.utils import _get_managed_session_maker

from trainer.tracking.delivery_errors import PermanentDeliveryError, http_status, is_permanent_error, short_reason


def of_code(name):
    return RestException({"error_code": name, "message": "no"})


def of_status(status):
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("no", response=response)


def of_text(status):
    return MlflowException(f"API request to endpoint /x failed with error code {status} != 200. Response body: ''")


def of_s3(status):
    class ClientError(Exception):
        response = {"ResponseMetadata": {"HTTPStatusCode": status}}  # noqa: RUF012 - as in botocore

    try:
        try:
            raise ClientError
        except ClientError:
            raise RuntimeError("S3UploadFailedError")  # noqa: B904 - as boto3 does
    except RuntimeError as error:
        return error


PERMANENT_CODES = [
    *("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND"),
    *("NOT_FOUND", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS"),
    *("NOT_IMPLEMENTED", "MALFORMED_REQUEST", "FEATURE_DISABLED"),
]
TRANSIENT_CODES = [
    *("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "RESOURCE_CONFLICT"),
    "DEADLINE_EXCEEDED",
]


@pytest.mark.parametrize(
    "error",
    [
        *map(of_code, PERMANENT_CODES),
        *map(of_status, (400, 401, 403, 404, 413, 422)),
        *map(of_text, (405, 413, 422)),
        of_s3(403),
        MlflowException("no", ErrorCode.Value("RESOURCE_DOES_NOT_EXIST")),
        PermanentDeliveryError("gone"),
        ModuleNotFoundError("No module named 'boto3'"),
        PermissionError(13, "Permission denied"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    ],
    ids=repr,
)
def test_permanent(error):
    assert is_permanent_error(error)


@pytest.mark.parametrize(
    "error",
    [
        *map(of_code, TRANSIENT_CODES),
        *map(of_status, (408, 409, 425, 429, 500, 502, 503, 504)),
        of_text(502),
        of_s3(503),
        MlflowException("API request to http://x failed with exception refused"),
        requests.ConnectionError("refused"),
        requests.exceptions.JSONDecodeError("not JSON", "<html>", 0),
        TimeoutError(),
        OSError(28, "No space left on device"),
    ],
    ids=repr,
)
def test_transient(error):
    assert not is_permanent_error(error)


def of_database(run):
    """MLflow's answer when a statement fails in its database."""
    engine = sqlalchemy.create_engine(
        "sqlite://", poolclass=sqlalchemy.QueuePool, pool_size=1, max_overflow=0, pool_timeout=0
    )
    session_maker = _get_managed_session_maker(sqlalchemy.orm.sessionmaker(bind=engine), "sqlite")
    try:
        with pytest.raises(MlflowException) as caught:
            run(engine, session_maker)
    finally:
        engine.dispose()
    return RestException(json.loads(caught.value.serialize_as_json()))


def without_connection(engine, session_maker):
    with engine.connect(), session_maker():
        pass


def with_a_wrong_value(_, session_maker):
    with session_maker() as session:
        session.execute(sqlalchemy.text("create table a (b integer unique)"))
        session.execute(sqlalchemy.text("insert into a values (1), (1)"))


@pytest.mark.parametrize(("run", "permanent"), [(without_connection, False), (with_a_wrong_value, True)])
def test_a_database_without_a_free_connection_is_transient(run, permanent):
    error = of_database(run)

    assert http_status(error) == 400
    assert is_permanent_error(error) is permanent


def test_an_answer_whose_error_is_of_requests_is_read():
    error = of_status(400)
    error.response._content = b'{"message": "(Background on this error at: https://sqlalche.me/e/20/3o7r)"}'

    assert not is_permanent_error(error)


def test_what_is_given_up_is_permanent_whatever_its_cause():
    error = PermanentDeliveryError("the artifact store failed 4 times")
    error.__context__ = of_status(503)
    assert is_permanent_error(error)


@pytest.mark.parametrize("text", ["x" * 5000, "<html>\n\n" + "<p>sign in</p>\n" * 300])
def test_a_reason_is_one_short_line(text):
    reason = short_reason(RuntimeError(f"http://ann:hunter2@host {text}"))
    assert len(reason) < 300
    assert "\n" not in reason
    assert "hunter2" not in reason


def test_an_error_without_a_status_has_none():
    assert http_status(ValueError("x")) is None
