"""Checks that this process can store artifacts of a run: a training must not find out at its end."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from trainer.core.errors import TrackingError
from trainer.core.redaction import redact
from trainer.tracking.connection import within
from trainer.tracking.delivery_errors import short_reason

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["check_artifact_store", "install_advice"]

_SECONDS = 60  # a store that is silent; boto3 alone would wait for five minutes


def check_artifact_store(client: "MlflowClient", run: "Run", file: Path | None = None) -> None:
    """Store `file`, or list what is stored. Raises TrackingError with the location and the cause."""
    location = str(run.info.artifact_uri)
    try:
        within(_SECONDS, lambda: _store(client, run, file))
    except Exception as error:
        cause, advice = f"{type(error).__name__}: {short_reason(error)}", _advice(location, error)
        raise TrackingError(
            f"Cannot store artifacts of run {run.info.run_id} in {redact(location)} ({cause}). {advice}"
        ) from None


def _store(client: "MlflowClient", run: "Run", file: Path | None) -> None:
    folder = _local_folder(str(run.info.artifact_uri))
    if file is not None:
        client.log_artifact(run.info.run_id, str(file))
    elif folder is not None:  # listing a folder that cannot be made raises nothing
        folder.mkdir(parents=True, exist_ok=True)
    else:
        client.list_artifacts(run.info.run_id)


def _local_folder(location: str) -> Path | None:
    if location.startswith("file:"):
        return Path(url2pathname(urlsplit(location).path))
    return Path(location) if location.startswith("/") else None


def install_advice(location: str, error: ModuleNotFoundError) -> str:
    """Return the beginning of a sentence: how to install the package that an artifact store needs."""
    return f"Install what is missing (`pip install {'boto3' if location.startswith('s3:') else error.name}`)"


def _advice(location: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{install_advice(location, error)}, or start the server with --serve-artifacts."
    if _local_folder(location) is not None:
        return "This is a path of the server's machine: start the server with --serve-artifacts, or correct its rights."
    if "redential" in f"{type(error).__name__}{error}":
        return "Set the credentials of the store, or start the server with --serve-artifacts: then it needs none here."
    return "Correct the cause, or start the server with --serve-artifacts: then it stores them itself."
