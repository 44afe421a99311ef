"""Divides errors of a tracking server into permanent and transient ones."""

import re

from trainer.core.redaction import redact

__all__ = [
    "FAILED_CALL",
    "NO_CONNECTION",
    "NO_STORAGE",
    "PermanentDeliveryError",
    "http_status",
    "is_permanent_error",
    "short_reason",
]

NO_CONNECTION = "Cannot connect to tracking server"
FAILED_CALL = "A call to tracking server"
NO_STORAGE = "Cannot store artifacts"
"""Beginnings of the errors of a command that the server, or its artifact store, did not answer."""

_RETRIED_STATUSES = frozenset({408, 409, 425, 429})  # time limit, conflict, too early, too many requests
_NOT_IMPLEMENTED = 501  # alone of 5xx it stays: the server lacks the call
_PERMANENT_CODES = ("INVALID_", "MALFORMED_", "FEATURE_DISABLED")
"""Beginnings of error codes of MLflow that have no HTTP status of a refusal."""
_REASON_CHARACTERS = 55
_DATABASE_FAILED = re.compile(r"sqlalche\.me/e/\w+/(3o7r|e3q8|rvf5|2j85|8s2b)\b")
"""SQLAlchemy: no free connection; operational, interface and internal errors; rollback. MLflow answers 400 to some."""
_STATUS_IN_TEXT = re.compile(r"failed with error code (\d{3})\b")


class PermanentDeliveryError(Exception):
    """An event cannot be delivered: its file or model is missing, or the artifact store does not keep it."""


def is_permanent_error(error: BaseException) -> bool:
    """Return whether the same call fails again however often it is repeated: missing rights, resources, files.

    Connection errors, time limits, failures of the server's database, 5xx, 408, 409 and 429 are transient.
    """
    import requests

    if isinstance(error, PermanentDeliveryError):
        return True
    status = http_status(error)
    if status is not None:
        if _DATABASE_FAILED.search(_answer(error)):
            return False
        is_refusal = 400 <= status < 500 and status not in _RETRIED_STATUSES
        code = str(getattr(error, "error_code", ""))
        return is_refusal or status == _NOT_IMPLEMENTED or code.startswith(_PERMANENT_CODES)
    if isinstance(error, requests.RequestException):  # no connection, or an answer that no MLflow server sent
        return False
    permanent = (ImportError, PermissionError, FileNotFoundError, NotADirectoryError)
    return isinstance(error, (*permanent, ValueError, TypeError, LookupError))  # the last three: a damaged event


def _answer(error: BaseException) -> str:
    """Return what the server said; the text of an error of requests lacks it."""
    response = getattr(error, "response", None)
    return f"{error} {getattr(response, 'text', '')}"


def short_reason(error: BaseException | None) -> str:
    """Return beginning and end of an error's text in one line without passwords; it may contain a proxy's page."""
    text = " ".join(redact(str(error)).split())
    return (
        text if len(text) <= 2 * _REASON_CHARACTERS else f"{text[:_REASON_CHARACTERS]} … {text[-_REASON_CHARACTERS:]}"
    )


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status behind an error of MLflow, requests or boto3; None for an error without one."""
    import requests
    from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS, MlflowException

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return int(error.response.status_code)
    if isinstance(error, MlflowException):
        named = _STATUS_IN_TEXT.search(str(error))  # MLflow has no code for some statuses, such as 413
        return int(named[1]) if named else ERROR_CODE_TO_HTTP_STATUS.get(error.error_code, 500)
    response = getattr(error, "response", None)  # botocore's ClientError, which boto3 wraps in errors of its own
    if isinstance(response, dict) and "HTTPStatusCode" in (metadata := response.get("ResponseMetadata", {})):
        return int(metadata["HTTPStatusCode"])
    return http_status(error.__context__) if error.__context__ else None
