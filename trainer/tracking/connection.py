"""Connects to a tracking server within a time limit."""

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import tenacity

from trainer.core.errors import EmotionsError, TrackingError, shorten
from trainer.core.redaction import redact
from trainer.tracking.backend import MlflowBackend
from trainer.tracking.connection_errors import CA_VARIABLE, explain_failure
from trainer.tracking.delivery_errors import FAILED_CALL, NO_CONNECTION, short_reason
from trainer.tracking.refusals import LOGIN_VARIABLES, explain_refusal

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["connect", "describe_error", "few_retries", "readable_errors", "rely_on_event_log", "within"]

_T = TypeVar("_T")

_START_SECONDS = 15
_MAX_ERROR_CHARACTERS = 5000
_MAX_ADDRESS_CHARACTERS = 60
_URI_VARIABLE = "MLFLOW_TRACKING_URI"
_FIRST_CONTACT_ATTEMPTS = 6

_MLFLOW_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # A command that asks a silent server gives up after about a minute of pauses; MLflow's own values make it four.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_EVENT_LOG_SETTINGS = {
    # The uploader repeats what failed as long as the run lasts, and a flush must see soon that the server is away.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "120",  # the server may answer the upload of a model after it has stored it
}
_environment_lock = threading.Lock()
# Errors of processes that create the tables of a new database together (alembic, MLflow 3.17).
_SCHEMA_RACE = re.compile(r"duplicate column|already exists|database is locked")


def connect(uri: str | None = None) -> MlflowBackend:
    """Return the tracking server at `uri`, by default the one of MLflow's own rules, after it has answered once.

    Raises TrackingError without an answer within 15 seconds. A local SQLite file has no limit: the first contact
    creates its tables.
    """
    for name, value in _MLFLOW_SETTINGS.items():  # before the import, which reads some of them
        os.environ.setdefault(name, value)
    if os.environ.get(CA_VARIABLE) == "":
        del os.environ[CA_VARIABLE]  # MLflow would not check the certificate of the server
    import mlflow

    logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())  # it may be imported already
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it warns of each repeated attempt
    uri = _without_password(_absolute(uri or mlflow.get_tracking_uri()))
    seconds = None if uri.startswith(("sqlite:", "file:", "/")) else _START_SECONDS
    try:
        with few_retries():
            client = within(seconds, lambda: _answering_client(uri))
    except Exception as error:
        reason, advice = explain_failure(uri, error)
        raise TrackingError(
            f"{NO_CONNECTION} {_shown(uri)} ({reason}). {advice}"
        ) from None  # the cause repeats the address with its password
    return MlflowBackend(client, uri)


def rely_on_event_log() -> None:
    """Reduce MLflow's own retries in this process: for training, whose calls all go through the event log."""
    for name, value in _EVENT_LOG_SETTINGS.items():
        if os.environ.get(name) in (None, _MLFLOW_SETTINGS.get(name)):  # trainings inherit the default of their search
            os.environ[name] = value


@contextlib.contextmanager
def readable_errors(backend: MlflowBackend) -> Iterator[None]:
    """Turn an error of the server during the block into a TrackingError that says what to do."""
    try:
        yield
    except EmotionsError:
        raise
    except Exception as error:
        if refusal := explain_refusal(error):
            reason, advice = refusal
            raise TrackingError(f"Tracking server {_shown(backend.uri)} refuses this ({reason}). {advice}") from None
        cause = f"{type(error).__name__}: {short_reason(error)}"
        raise TrackingError(
            f"{FAILED_CALL} {_shown(backend.uri)} failed ({cause}). Correct the cause and try again: "
            "the run folder keeps everything."
        ) from None  # the cause may repeat the address with its password


def describe_error(failure: BaseException) -> str:
    """Return the text of an error, with its class unless it is ours; without passwords, short enough for a tag."""
    ours = isinstance(failure, EmotionsError)
    return redact(str(failure) if ours else f"{type(failure).__name__}: {failure}")[:_MAX_ERROR_CHARACTERS]


def _shown(uri: str) -> str:
    # An address in a text ends at white space, but this one is whole, and its password may have a space.
    return shorten(redact(uri.replace(" ", "%20")), _MAX_ADDRESS_CHARACTERS)


@contextlib.contextmanager
def few_retries() -> Iterator[None]:
    """Make MLflow report a failed first contact after seconds instead of a minute."""
    with _environment_lock:  # threads share the environment: two restores would mix
        before = {name: os.environ.get(name) for name in _EVENT_LOG_SETTINGS}
        os.environ.update(_EVENT_LOG_SETTINGS)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _absolute(uri: str) -> str:
    """Return a relative SQLite address as an absolute one, so that `sync` finds the same file from any folder."""
    prefix, path = "sqlite:///", uri.removeprefix("sqlite:///")
    if not uri.startswith(prefix) or not path or path.startswith(("/", ":memory:")):
        return uri
    return f"{prefix}{Path(path).resolve()}"


def _without_password(uri: str) -> str:
    """Return a URL without its user and password, which become the variables that MLflow reads.

    In the address they would reach messages of MLflow, and requests cannot send all of their characters from there.
    """
    try:
        parts = urlsplit(uri)
    except ValueError:  # the first contact reports it
        return uri
    if parts.scheme not in ("http", "https") or not parts.username or not parts.password:
        return uri
    os.environ.update(zip(LOGIN_VARIABLES, map(unquote, (parts.username, parts.password)), strict=True))
    without = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if os.environ.get(_URI_VARIABLE) == uri:
        os.environ[_URI_VARIABLE] = without
    return without


@tenacity.retry(
    retry=tenacity.retry_if_exception(lambda error: bool(_SCHEMA_RACE.search(str(error)))),
    stop=tenacity.stop_after_attempt(_FIRST_CONTACT_ATTEMPTS),
    wait=tenacity.wait_random_exponential(max=4),
    reraise=True,
)
def _answering_client(uri: str) -> "MlflowClient":
    """Return a client that has had an answer. MLflow creates the tables of a new database without a lock."""
    import mlflow

    client = mlflow.MlflowClient(uri)
    client.search_experiments(max_results=1)
    return client


def within(seconds: float | None, call: Callable[[], _T]) -> _T:
    """Return what `call` returns; TimeoutError when it takes longer, as database drivers and resolvers may."""
    outcome: Future[_T] = Future()  # no executor: it would wait for a hanging call when Python ends

    def attempt() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=attempt, name="connection-probe", daemon=True).start()
    try:
        return outcome.result(seconds)
    except TimeoutError:
        if outcome.done():  # the call itself has raised it
            raise
        raise TimeoutError(f"no answer within {seconds} seconds") from None
