"""First contact with a tracking server, with a limit on the time it may take."""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trainer.core.environment import redact
from trainer.core.errors import EmotionsError, TrackingError
from trainer.tracking.backend import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["connect", "describe", "readable_errors"]

_T = TypeVar("_T")

_START_SECONDS = 15
_MAX_ERROR_CHARACTERS = 5000

_MLFLOW_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # MLflow's own seven retries block a caller for four minutes; the spool retries for as long as the run lasts.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}


def connect(uri: str | None = None) -> "Store":
    """The tracking server at `uri`, by default the one MLflow's own rules name, after it has answered once.

    Raises TrackingError when it has not answered within 15 seconds. A local SQLite file has longer: the first
    contact creates its tables.
    """
    for name, value in _MLFLOW_SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow

    logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())  # it may be imported already
    logging.getLogger("alembic").setLevel(logging.WARNING)
    uri = _absolute(uri or mlflow.get_tracking_uri())
    seconds = None if uri.startswith(("sqlite:", "file:", "/")) else _START_SECONDS
    try:
        client = _within(seconds, lambda: _answering_client(uri))
    except Exception as error:
        raise TrackingError(
            f"tracking server must answer, but got uri={redact(uri)!r}: {redact(str(error))}. Start it (`mlflow "
            f"server`), correct MLFLOW_TRACKING_URI, or unset that to keep runs in a local file."
        ) from None  # the cause repeats the address with its password
    return Store(client, uri)


@contextlib.contextmanager
def readable_errors(store: Store) -> Iterator[None]:
    """Turn what fails on the server's side during the block into a TrackingError that says what to do."""
    try:
        yield
    except EmotionsError:
        raise
    except Exception as error:
        raise TrackingError(
            f"tracking server must do what is asked of it, but got uri={redact(store.uri)!r}: {describe(error)}. "
            f"Correct the cause and try again; nothing in the run folder is lost."
        ) from None  # the cause may repeat the address with its password


def describe(failure: BaseException) -> str:
    """Kind and text of an error, without passwords, cut to a length that fits a tag."""
    return redact(f"{type(failure).__name__}: {failure}")[:_MAX_ERROR_CHARACTERS]


def _absolute(uri: str) -> str:
    """A relative SQLite address made absolute, so that `sync` finds the same file from any folder."""
    prefix, path = "sqlite:///", uri.removeprefix("sqlite:///")
    if not uri.startswith(prefix) or not path or path.startswith(("/", ":memory:")):
        return uri
    return f"{prefix}{Path(path).resolve()}"


def _answering_client(uri: str) -> "MlflowClient":
    import mlflow

    client = mlflow.MlflowClient(uri)
    client.search_experiments(max_results=1)
    return client


def _within(seconds: float | None, call: Callable[[], _T]) -> _T:
    """What `call` returns; TimeoutError when it takes longer. Drivers and resolvers have their own, longer patience."""
    outcome: Future[_T] = Future()

    def attempt() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=attempt, name="tracking-probe", daemon=True).start()
    try:
        return outcome.result(seconds)
    except TimeoutError:
        if outcome.done():
            raise
        raise TimeoutError(f"no answer within {seconds} seconds") from None
