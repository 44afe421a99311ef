"""Replace this process by `serve` with the account `serve` and the secret of the tracking server's webhooks.

`python -m trainer.service.champion_server --secrets DIR --tracking HOST:PORT`
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from trainer.core.errors import EmotionsError
from trainer.service import secrets
from trainer.service.accounts.roles import SERVE
from trainer.service.settings import ServiceSettings

__all__ = ["argv", "environment"]


def argv(settings: ServiceSettings, host: str, port: int) -> list[str]:
    """Return the command line, which holds no secret."""
    flags = {"registered_model": settings.model, "host": host, "port": port, "login": "true"}
    return [sys.executable, "-m", "registry.serve", *(f"--{name}={value}" for name, value in flags.items())]


def environment(
    settings: ServiceSettings, secret_folder: Path, tracking: str, inherited: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment: what is inherited without other variables of MLflow, and the secrets."""
    kept = {name: value for name, value in inherited.items() if not name.startswith(("MLFLOW_", "_MLFLOW_"))}
    return kept | {
        "MLFLOW_TRACKING_URI": f"http://{tracking}{settings.prefix}",
        "MLFLOW_TRACKING_USERNAME": SERVE,
        "MLFLOW_TRACKING_PASSWORD": secrets.read(secret_folder, "serve_password"),
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",  # its container does not reach the object store
        "SERVE_WEBHOOK_SECRET": secrets.read(secret_folder, "webhook_secret"),
    }


def main() -> NoReturn:
    """Replace this process by the server; returns only after an error."""
    parser = argparse.ArgumentParser(prog="python -m trainer.service.champion_server", description=main.__doc__)
    parser.add_argument("--secrets", type=Path, required=True, help="folder of the secrets")
    parser.add_argument("--tracking", required=True, help="HOST:PORT of the MLflow server")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=5000)
    given = parser.parse_args()
    try:
        settings = ServiceSettings.read()
        variables = environment(settings, given.secrets, given.tracking, os.environ)
    except EmotionsError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
    os.execve(sys.executable, argv(settings, given.host, given.port), variables)  # noqa: S606 - without a shell


if __name__ == "__main__":
    main()
