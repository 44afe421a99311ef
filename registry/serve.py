"""Serve the champion over HTTP, and replace it without a failed request when the alias moves.

`mlflow run . -e serve`, or `python -m registry.serve --port 5001`.
"""

import os
import socket
import sys
from collections.abc import Sequence

from registry.config import ServeConfig
from trainer.core import settings
from trainer.core.errors import SettingsError
from trainer.core.redaction import redact
from trainer.reporting import console
from trainer.reporting.command import run_cli
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
        report_failure,
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
        server.run([listening])


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
