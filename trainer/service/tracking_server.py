"""Replace this process by `mlflow server` with accounts, PostgreSQL and S3.

`python -m trainer.service.tracking_server --secrets DIR --database HOST:PORT --s3 HOST:PORT --scratch DIR`
"""

import argparse
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from trainer.core.errors import EmotionsError
from trainer.service import connections, secrets, webhooks
from trainer.service.settings import ServiceSettings
from trainer.service.stores import Stores

__all__ = ["TrackingServer", "server_environment"]

# Each check of a password takes 30 ms. A deleted user may be let in for these seconds.
_PASSWORD_CACHE_SECONDS = 10
# A worker answers 40 requests at once; MLflow answers 400 to one that waits 30 s for a connection. PostgreSQL takes 400
# connections.
_CONNECTIONS, _MORE_CONNECTIONS = 5, 35
_ROOT = str(Path(__file__).parents[2])
_ACCOUNTS = """\
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {database}
admin_username = {admin}
authorization_function = trainer.service.accounts.authorization:authenticate
grant_default_workspace_access = false
auth_cache_ttl_seconds = {seconds}
"""


@dataclass(frozen=True, kw_only=True)
class TrackingServer:
    """One `mlflow server`: what it is told on its command line and in its environment."""

    settings: ServiceSettings
    stores: Stores
    secrets: Path
    scratch: Path
    """Folder for files that are made again at every start."""
    host: str
    port: int
    name: str = ""
    """Name by which processes of other machines reach `host`, if they do."""

    def argv(self) -> list[str]:
        """Return the command line, which holds no secret."""
        words = {
            "--app-name": "basic-auth",
            "--host": self.host,
            "--port": str(self.port),
            "--workers": str(self.settings.workers),
            "--backend-store-uri": self.stores.url(),
            "--artifacts-destination": f"s3://{self.stores.bucket}",
            "--allowed-hosts": ",".join(self._allowed_hosts()),
            "--cors-allowed-origins": ",".join(f"https://{host}" for host in self._allowed_hosts()),
            "--expose-prometheus": str(self.scratch / "metrics"),
        }
        if self.settings.prefix:
            words["--static-prefix"] = self.settings.prefix
        pairs = [word for pair in words.items() for word in pair]
        return [sys.executable, "-m", "mlflow", "server", "--serve-artifacts", *pairs]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Return the environment: what is inherited without variables of MLflow clients, and the secrets."""
        kept = {name: value for name, value in inherited.items() if not name.startswith(("MLFLOW_", "_MLFLOW_"))}
        return (
            {"OMP_NUM_THREADS": "1"}  # the libraries that the server imports start a thread per core
            | kept
            | server_environment(self.settings, self.secrets, self.stores, self.scratch)
        )

    def _allowed_hosts(self) -> list[str]:
        """Host headers: with and without the port of the edge, and the address for processes beside the server."""
        port, own = self.settings.port, f"{self.name or self.host}:{self.port}"
        return [name for host in (*self.settings.hosts, "127.0.0.1") for name in (host, f"{host}:{port}")] + [own]


def server_environment(settings: ServiceSettings, secret_folder: Path, stores: Stores, scratch: Path) -> dict[str, str]:
    """Return the variables of a process that imports MLflow's server; writes the settings of its accounts."""
    accounts = scratch / "accounts.ini"
    text = _ACCOUNTS.format(database=stores.url(), admin=settings.admin, seconds=_PASSWORD_CACHE_SECONDS)
    secrets.write_private(accounts, text)
    variables = {
        "MLFLOW_AUTH_CONFIG_PATH": str(accounts),
        "PYTHONPATH": os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH")))),  # for that function
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.read(secret_folder, "flask_secret_key"),
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # it takes 1.2 GB
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": str(_CONNECTIONS),
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": str(_MORE_CONNECTIONS),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": secrets.read(secret_folder, "webhook_key"),
    }
    return connections.environment(stores) | webhooks.ENVIRONMENT | variables


def main() -> NoReturn:
    """Replace this process by the server; returns only after an error."""
    parser = argparse.ArgumentParser(prog="python -m trainer.service.tracking_server", description=main.__doc__)
    connections.add_arguments(parser)
    parser.add_argument("--scratch", type=Path, required=True, help="folder of files made at every start")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--name", default="", help="name by which other machines reach that address")
    given = parser.parse_args()
    try:
        server = TrackingServer(
            settings=ServiceSettings.read(),
            stores=connections.open_stores(given.secrets, given.database, given.s3),
            secrets=given.secrets,
            scratch=given.scratch,
            host=given.host,
            port=given.port,
            name=given.name,
        )
        environment = server.environment(os.environ)
        # Files of processes that have ended would count on.
        shutil.rmtree(given.scratch / "metrics", ignore_errors=True)
    except EmotionsError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
    os.execve(sys.executable, server.argv(), environment)  # noqa: S606 - an own program, without a shell


if __name__ == "__main__":
    main()
