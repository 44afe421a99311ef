"""What a process of the service is told on its command line: where PostgreSQL, S3 and the secrets are."""

import argparse
from pathlib import Path

from trainer.core.errors import SettingsError
from trainer.service import secrets
from trainer.service.stores import Stores

__all__ = ["add_arguments", "arguments", "environment", "open_stores"]

_NAME = "mlflow"  # of the database, its user and the bucket


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `open_stores`, which are no secrets."""
    parser.add_argument("--secrets", type=Path, required=True, help="folder of the secrets")
    parser.add_argument("--database", required=True, help="HOST:PORT of PostgreSQL")
    parser.add_argument("--s3", required=True, help="HOST:PORT of the S3 server")


def arguments(secret_folder: Path, postgres_port: int, s3_port: int) -> list[str]:
    """Return these arguments for servers on this machine."""
    database, s3 = f"127.0.0.1:{postgres_port}", f"127.0.0.1:{s3_port}"
    return ["--secrets", str(secret_folder), "--database", database, "--s3", s3]


def open_stores(secret_folder: Path, database: str, s3: str) -> Stores:
    """Return the stores at two addresses HOST:PORT. Raises SettingsError for a missing secret."""
    host, colon, port = database.rpartition(":")
    if not colon or not port.isdigit():
        raise SettingsError(f"`database` must be HOST:PORT, got {database}.")
    return Stores(
        host=host,
        port=int(port),
        user=_NAME,
        database=_NAME,
        password_file=secret_folder / "pgpass",
        endpoint=f"http://{s3}",
        access_key=secrets.read(secret_folder, "s3_access_key"),
        secret_key=secrets.read(secret_folder, "s3_secret_key"),
        bucket=_NAME,
    )


def environment(stores: Stores) -> dict[str, str]:
    """Return the variables with which MLflow reads and writes the stores."""
    return {
        "PGPASSFILE": str(stores.password_file),
        "AWS_ACCESS_KEY_ID": stores.access_key,
        "AWS_SECRET_ACCESS_KEY": stores.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_S3_ENDPOINT_URL": stores.endpoint,
    }
