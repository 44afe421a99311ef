"""Checks that this process can store artifacts of a run: a training must not find out at its end."""

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from trainer.core.errors import TrackingError, shorten
from trainer.core.redaction import redact
from trainer.tracking.connection import few_retries, within
from trainer.tracking.delivery_errors import NO_STORAGE, short_reason
from trainer.tracking.refusals import explain_refusal

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["check_artifact_store", "install_advice"]

_SECONDS = 60  # a store that is silent; boto3 alone would wait for five minutes
_MOST_LOCATION_CHARACTERS = 60
_SERVED = "mlflow-artifacts:"

# Stores that clients write to themselves. A pattern of the error's class and text, the reason, or none for the text
# itself, and the advice.
_CAUSES = (
    ("specified bucket does not exist|NoSuchBucket", "there is no such bucket", "Create it, correct its name"),
    (
        "(?i)signature you provided|access ?key id",
        "the keys are wrong",
        "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    ("CredentialsError", "no keys", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "no known authority has signed its certificate",
        "Set AWS_CA_BUNDLE to the file of its authority",
    ),
    ("SSLError|CA (certificate )?bundle", "", "Correct MLFLOW_S3_ENDPOINT_URL and AWS_CA_BUNDLE"),
    (
        "EndpointConnection|EndpointResolution|Invalid endpoint|Not Found",
        "",
        "Correct MLFLOW_S3_ENDPOINT_URL, start the store",
    ),
    ("ProxyConnectionError", "", "Correct HTTPS_PROXY, add the store's host to NO_PROXY"),
    ("Access ?Denied|Forbidden", "", "Ask for the right to write there"),
)


def check_artifact_store(client: "MlflowClient", run: "Run", file: Path | None = None) -> None:
    """Store `file`, or list what is stored. Raises TrackingError with the location and the cause."""
    location = str(run.info.artifact_uri)
    try:
        with few_retries():
            within(_SECONDS, lambda: _store(client, run, file))
    except Exception as error:
        reason, advice = _explain(location, error)
        folder = location.removesuffix(f"/{run.info.run_id}/artifacts")
        shown = shorten(redact(folder), _MOST_LOCATION_CHARACTERS)
        raise TrackingError(f"{NO_STORAGE} in {shown} ({reason}). {advice}") from None


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


def _explain(location: str, error: Exception) -> tuple[str, str]:
    """Return why artifacts cannot be stored, without secrets, and what to do."""
    text, reason = str(error), f"{type(error).__name__}: {short_reason(error)}"
    if isinstance(error, ModuleNotFoundError):
        return reason, f"{install_advice(location, error)}, or start the server with --serve-artifacts."
    if _local_folder(location) is not None:
        advice = (
            "This is a path of the server's machine: start the server with --serve-artifacts, or correct its rights."
        )
        return reason, advice
    if location.startswith(_SERVED):
        return explain_refusal(error) or (
            reason,
            "Correct the server's artifact store, or ask who runs the server.",
        )
    for pattern, shown, advice in _CAUSES:
        if re.search(pattern, f"{type(error).__name__} {text}"):
            return shown or reason, f"{advice}, or start the server with --serve-artifacts."
    return reason, "Correct the cause, or start the server with --serve-artifacts: then it stores them itself."
