"""Serve the champion over HTTP, and replace it without a failed request when the alias moves.

`mlflow run . -e serve`, or `python -m registry.serve --port 5001`.
"""

import os
import socket
import sys
from collections.abc import Sequence

from registry.config import ServeConfig
from trainer.core import settings, signals
from trainer.core.errors import SettingsError
from trainer.core.redaction import redact
from trainer.reporting import console
from trainer.reporting.command import run_cli
from trainer.tracking import page
from trainer.tracking.connection import connect, describe_error
from trainer.tracking.run import report_failure

__all__ = ["SECRET_VARIABLE", "main", "serve"]

_EXAMPLE = "mlflow run . -e serve -P port=5001"

SECRET_VARIABLE = "SERVE_WEBHOOK_SECRET"  # noqa: S105 - its name
"""Variable of the environment with the secret of the tracking server's webhook."""

_DRAIN_SECONDS = 30
# A tracking server that is away must not keep the next look waiting for minutes.
_MLFLOW_SETTINGS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 1 when the server cannot start, 128 + n after stop signal n."""
    return run_cli(
        lambda arguments: serve(settings.parse(ServeConfig, arguments, example=_EXAMPLE), console.make()),
        argv,
        _end_run,
    )


def serve(config: ServeConfig, screen: console.Console) -> None:
    """Serve until a stop signal; requests that have begun are answered first."""
    with _listen(config.host, config.port) as listening:  # before the libraries, which take seconds
        for name, value in _MLFLOW_SETTINGS.items():
            os.environ.setdefault(name, value)
        import uvicorn

        from registry.serving.app import Limits, make_app
        from registry.serving.champion import open_champion
        from registry.serving.login import Login
        from registry.serving.metrics import Metrics

        champion = open_champion(config, screen)
        app = make_app(
            champion,
            Metrics(),
            limits=Limits(body_bytes=config.max_body_mb * 10**6, seconds=config.timeout_seconds),
            webhook_secret=os.environ.get(SECRET_VARIABLE, ""),
            login=Login(_tracking_uri()) if config.login else None,
        )
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="warning", access_log=False, timeout_graceful_shutdown=_DRAIN_SECONDS, lifespan="off"
            )
        )
        screen.show_note(
            f"Listening on http://{config.host}:{config.port}. Loading {config.registered_model}@{config.alias}."
        )
        if run_id := os.environ.get("MLFLOW_RUN_ID"):  # `mlflow run` sets it
            _describe_run(run_id, config, screen)
        server.run([listening])


def _describe_run(run_id: str, config: ServeConfig, screen: console.Console) -> None:
    """Say on the run of `mlflow run`, which lasts as long as this server, what it serves."""
    served = f"{config.registered_model}@{config.alias}"
    note = f"Serves {served} on port {config.port} of {socket.gethostname()}, until somebody stops it."
    try:
        page.describe_command(connect().client, run_id, f"serve {served}", note)
    except Exception as error:  # requests are answered without it
        screen.show_warning(f"Cannot describe run {run_id}: {describe_error(error)}")


def _end_run(error: BaseException) -> None:
    """Give the run of `mlflow run` its status: FINISHED after a stop signal, with which each server ends."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if run_id is None or not signals.is_stop(error):
        report_failure(error)
        return
    try:
        connect().client.set_terminated(run_id, "FINISHED")
    except Exception as failure:  # the server has ended in order all the same
        console.make().show_warning(f"Cannot end run {run_id}: {describe_error(failure)}")


def _tracking_uri() -> str:
    import mlflow

    uri = str(mlflow.get_tracking_uri())
    if not uri.startswith(("http://", "https://")):
        raise SettingsError(f"`login` must be false without a tracking server, got true and {redact(uri)}.")
    return uri


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise SettingsError(
            f"`port` must be free on `host`, got {port} on {host} ({error.strerror}). Give another port, or stop what "
            "uses it."
        ) from error


if __name__ == "__main__":
    sys.exit(main())
