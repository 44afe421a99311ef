"""Says which right an account of a tracking server lacks, and who gives it."""

import os
import re
from typing import TYPE_CHECKING, Any

from trainer.core.errors import TrackingError, shorten
from trainer.core.redaction import redact
from trainer.tracking.delivery_errors import http_status, short_reason

if TYPE_CHECKING:
    from trainer.tracking.backend import MlflowBackend

__all__ = ["LOGIN_VARIABLES", "check_registry_right", "explain_host", "explain_refusal"]

LOGIN_VARIABLES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
_UNAUTHORIZED, _FORBIDDEN = 401, 403
_MOST_TEXT, _MOST_NAME = 120, 40
_HIDDEN, _READ_ONLY = frozenset({"DENY", "NO_PERMISSIONS"}), frozenset({"READ", "USE"})
_NEEDS = re.compile(r"Permission denied: (.+?)\.?$", re.MULTILINE)
"""What this project's own service answers."""
# A pattern of the endpoint, and the right that it needs. The first one that is found decides.
_RIGHTS = (
    (r"/(registered-models|model-versions)/(get|search|get-[\w-]+)\b", "reading the registry needs the role reader"),
    (r"/(registered-models|model-versions)\b", "writing to the registry needs the role promoter"),
    (r"/(get|search|list|get-[\w-]+|get-artifact)\b", "reading runs needs the role reader"),
    (r"/(runs|experiments|logged-models|mlflow-artifacts|artifacts)\b", "logging runs needs the role writer"),
)


def explain_refusal(error: BaseException) -> tuple[str, str] | None:
    """Return why a server refuses an account, and a sentence with what to do; None for another error.

    A missing right stays missing until an admin gives it, so it is never waited for.
    """
    text, status = str(error), http_status(error)
    if host := explain_host(text):
        return host
    if status == _UNAUTHORIZED:
        return (
            f"401: wrong or changed password of {_account()}, or a removed account",
            "Correct " + " and ".join(LOGIN_VARIABLES) + ", or ask an admin.",
        )
    if status == _FORBIDDEN:
        return f"403: {_missing_right(text) or short_reason(error)}", _who_gives_it()
    return None


def explain_host(text: str) -> tuple[str, str] | None:
    """Return why and what to do when the text of an error is about the name by which the server is addressed."""
    if "Invalid Host header" not in text:
        return None
    advice = "Use another name of it, or add this one to its MLFLOW_SERVER_ALLOWED_HOSTS (SERVICE_HOST in docker/.env)."
    return "it does not allow this host name (403)", advice


def check_registry_right(backend: "MlflowBackend", name: str, *, reads: bool = False) -> None:
    """Raise TrackingError when the account may not register versions of `name` or move its aliases.

    reads: only when it may not read them either; MLflow then answers as if nothing was registered. A server that cannot
    say so, such as one without accounts, passes: its answer to the call itself decides.
    """
    refused = _HIDDEN if reads else _HIDDEN | _READ_ONLY
    if _registry_permission(backend, name) in refused:
        act, role = ("reading", "reader") if reads else ("writing to", "promoter")
        raise TrackingError(
            f"Tracking server {shorten(redact(backend.uri), _MOST_NAME)} refuses this (403: {act} registered "
            f"model {shorten(name, _MOST_NAME)} needs the role {role}). {_who_gives_it()}"
        )


def _registry_permission(backend: "MlflowBackend", name: str) -> str | None:
    """Return MLflow's name of what the account may do with a registered model, whether or not there is one."""
    if not backend.uri.startswith(("http://", "https://")):
        return None
    user = _get(backend.uri, "/api/2.0/mlflow/users/current", {}).get("user")
    if not isinstance(user, dict) or user.get("is_admin"):
        return None
    resource = {"username": user["username"], "resource_type": "registered_model", "resource_id": name}
    found = _get(backend.uri, "/api/3.0/mlflow/users/permissions/get", resource).get("permission")
    return found if isinstance(found, str) else None


def _get(uri: str, endpoint: str, parameters: dict[str, str]) -> dict[str, Any]:
    """Return the content of an answer of success, else nothing."""
    from mlflow.utils import credentials, rest_utils

    untyped: Any = rest_utils
    logins: Any = credentials
    answer = untyped.http_request(logins.get_default_host_creds(uri), endpoint, "GET", params=parameters)
    try:
        content = answer.json() if answer.ok else {}
    except ValueError:  # the page of a proxy
        return {}
    return content if isinstance(content, dict) else {}


def _account() -> str:
    name = os.environ.get(LOGIN_VARIABLES[0])
    return f"user {shorten(redact(name), _MOST_NAME)}" if name else "this user"


def _who_gives_it() -> str:
    return f"An admin of the server gives it to {_account()}."


def _missing_right(text: str) -> str | None:
    if found := _NEEDS.search(text):
        return shorten(redact(found[1]), _MOST_TEXT)
    return next((right for pattern, right in _RIGHTS if re.search(pattern, text)), None)
