"""Refuses what MLflow's permissions cannot: they let every account create things, and writers overwrite any artifact.

Runs inside the tracking server, which calls `authenticate` for each request (`authorization_function` in the
configuration of its accounts). Permissions of MLflow are checked after it.
"""

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress

from flask import Response, g, make_response, request
from mlflow.exceptions import MlflowException
from mlflow.server import auth
from mlflow.server.auth.permissions import NO_PERMISSIONS, GrantLoadKey, Permission
from mlflow.server.handlers import _get_model_registry_store
from mlflow.utils.uri import validate_path_is_safe
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME
from werkzeug.datastructures import Authorization

from trainer.service.accounts.failed_logins import SECONDS, FailedLogins

__all__ = ["authenticate"]

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_UNUSED = re.compile(r"/(gateway|gateway-proxy|mcp-servers|assistant|demo|jobs)(/|$)")
"""MLflow's services for language models: any account could create secrets, endpoints and experiments there."""
_ARTIFACT = re.compile(r"/mlflow-artifacts/(?:artifacts|mpu/\w+)/(?P<path>.+)")
_LOGGED_MODEL = re.compile(r"/mlflow/logged-models/(?P<id>[\w-]+)")
_RUN = re.compile(r"/mlflow/(runs/(?!create$|search$)|upload-artifact$|artifacts/presigned-upload-url$)")
_RUN_FIELDS, _MODEL_FIELDS = ("run_id", "runId", "run_uuid", "runUuid"), ("model_id", "modelId")
_LOCATION_FIELDS = ("artifact_location", "artifactLocation")
_ID = re.compile(r"[\w-]+")
_failed_logins = FailedLogins()


def authenticate() -> Authorization | Response:
    """Return who sends this request, or the answer 401, 403 or 429 to it."""
    if "answer" not in g:  # MLflow asks several times in a request, and each check of a password takes 0.1 s
        g.answer = _login()
        if isinstance(g.answer, Authorization) and (missing := _missing_right(str(g.answer.username))):
            g.answer = make_response(
                {"error_code": "PERMISSION_DENIED", "message": f"Permission denied: {missing}"}, 403
            )
    answer: Authorization | Response = g.answer
    return answer


def _login() -> Authorization | Response:
    given = request.authorization
    if given is None or given.type != "basic":
        return auth.make_basic_auth_response()  # MLflow 3.17 answers 500 to a token
    name, password = str(given.username), str(given.password)
    source = (request.headers.get("X-Real-IP", ""), name)  # from the edge
    login = auth._auth_cache_key(name, password)
    if _failed_logins.is_refused(source, login):
        message = f"Too many wrong logins as this user: wait {SECONDS} seconds."
        answer = make_response({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": message}, 429)
        answer.headers["Retry-After"] = str(SECONDS)
        return answer
    found = auth.authenticate_request_basic_auth()
    _failed_logins.add(source, login, is_right=isinstance(found, Authorization))
    return found


def _missing_right(username: str) -> str | None:
    """Return the role that the request needs and its account lacks, as a sentence."""
    if request.method in _READS or auth.store.get_user(username).is_admin:
        return None
    return next((text for is_needed, text in _rules(username) if is_needed()), None)


def _rules(username: str) -> tuple[tuple[Callable[[], bool], str], ...]:
    path = request.path

    def lacks(resource: str) -> bool:
        return not _permission(username, resource).can_update

    return (
        (lambda: bool(_UNUSED.search(path)), "an admin alone may do this."),
        (
            lambda: request.method == "DELETE" and _ARTIFACT.search(path) is not None,
            "an admin alone may delete artifacts.",
        ),
        (
            lambda: path.endswith("/mlflow/experiments/create") and bool(_given(_LOCATION_FIELDS)),
            "an admin alone may choose where artifacts of an experiment are stored.",
        ),
        (
            lambda: path.endswith("/mlflow/experiments/create") and lacks("experiment"),
            "creating an experiment needs the role writer or promoter.",
        ),
        (
            # Its creator could delete the runs of others in it, and the champion's.
            lambda: path.endswith("/mlflow/experiments/delete"),
            "an admin alone may delete experiments.",
        ),
        (
            lambda: path.endswith("/mlflow/registered-models/create") and lacks("registered_model"),
            "creating a registered model needs the role promoter.",
        ),
        (
            lambda: lacks("registered_model") and _changes_registered(),
            "this run or model is registered, and changing it needs the role promoter.",
        ),
    )


def _permission(username: str, resource: str) -> Permission:
    keys = [GrantLoadKey(resource, "*")]
    found = auth.resolve_permissions(username, DEFAULT_WORKSPACE_NAME, keys)[0]
    return found or NO_PERMISSIONS


def _given(names: Sequence[str]) -> list[object]:
    """Return the values that the query and the body have under these names: MLflow reads both spellings."""
    body = request.get_json(force=True, silent=True)
    if isinstance(body, str):  # MLflow also reads JSON within JSON
        with suppress(ValueError):
            body = json.loads(body)
    sources = (request.args, body if isinstance(body, dict) else {})
    return [source[name] for source in sources for name in names if source.get(name)]


def _changes_registered() -> bool:
    """Return whether the request changes a run or logged model, or files of one, that has a registered version."""
    runs: Sequence[object] = ()
    models: Sequence[object] = ()
    if found := _ARTIFACT.search(request.path):
        runs, models = _owner_of(found["path"])
    elif found := _LOGGED_MODEL.search(request.path):
        models = [found["id"], *_given(_MODEL_FIELDS)]  # MLflow checks the first and ends the second
    elif _RUN.search(request.path):
        runs, models = _given(_RUN_FIELDS), _given(_MODEL_FIELDS)
    return any(_has_version("run_id = '{}'", run) for run in runs) or any(
        _has_version("source_path = 'models:/{}'", model) for model in models
    )


def _owner_of(path: str) -> tuple[list[str], list[str]]:
    """Return the id of the run, or that of the logged model, in `EXPERIMENT/RUN/…` or `EXPERIMENT/models/MODEL/…`."""
    try:
        decoded = validate_path_is_safe(path)  # type: ignore[no-untyped-call]  # as the server reads it
    except MlflowException:
        return [], []  # the server refuses it too
    parts = [part for part in decoded.split("/") if part not in ("", ".")]
    return ([], parts[2:3]) if parts[1:2] == ["models"] else (parts[1:2], [])


def _has_version(condition: str, subject: object) -> bool:
    if not isinstance(subject, str) or not _ID.fullmatch(subject):
        return False  # no id, so nothing that can be registered
    found = _get_model_registry_store().search_model_versions(condition.format(subject), max_results=1)  # type: ignore[no-untyped-call]
    return bool(found)
