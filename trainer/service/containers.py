"""What the first container of docker/compose.yaml does: make the secrets, and give each container those that it needs.

A secret is a file that one user may read, and each container has a user of its own; compose cannot change the owner of
a file that it mounts. So this process, the only one with rights of root, copies them into folders of a volume.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.core.errors import EmotionsError, shorten
from trainer.service import secrets
from trainer.service.native import edge, s3
from trainer.service.settings import ServiceSettings

__all__ = ["CONTAINERS", "Container", "fill", "main"]


@dataclass(frozen=True, kw_only=True)
class Container:
    """The user of a container, and the secrets that it may read."""

    user: int
    secrets: Sequence[str] = ()
    optional: Sequence[str] = ()
    """Secrets that need not be there."""
    volumes: Sequence[str] = ()
    """Folders in its own that it writes to."""


CONTAINERS: Mapping[str, Container] = {
    "postgres": Container(user=999, secrets=["postgres_password", "studies_password"]),
    "s3": Container(user=1000, volumes=["data"]),
    "tracking": Container(
        user=10001,
        secrets=[
            *("admin_password", "flask_secret_key", "pgpass", "s3_access_key", "s3_secret_key", "serve_password"),
            *("train_password", "webhook_key", "webhook_secret"),
        ],
        optional=["notice_url"],
        volumes=["backups"],
    ),
    "serve": Container(user=10002, secrets=["serve_password", "webhook_secret"], volumes=["scratch"]),
    "train": Container(user=10003, secrets=["train_password"], volumes=["runs"]),
    "dashboard": Container(user=10004),
    "edge": Container(user=101, secrets=["tls/server.crt", "tls/server.key"]),
}
_STUDIES = "postgres:5432:optuna:optuna"


def fill(secret_folder: Path, parts: Path, settings: ServiceSettings) -> None:
    """Write the folder of each container, for its user alone. Needs the rights of root."""
    parts.chmod(0o755)
    for name, container in CONTAINERS.items():
        folder = parts / name
        folder.mkdir(exist_ok=True)
        for secret in container.secrets:
            shutil.copyfile(secret_folder / secret, folder / Path(secret).name)
        for secret in container.optional:
            (folder / secret).unlink(missing_ok=True)
            if (secret_folder / secret).exists():
                shutil.copyfile(secret_folder / secret, folder / secret)
    users = json.dumps(s3.users(secret_folder))
    (parts / "s3" / "users.json").write_text(users, encoding="utf-8")
    studies = secrets.read(secret_folder, "studies_password")
    for name in ("train", "dashboard"):
        (parts / name / "pgpass").write_text(f"{_STUDIES}:{studies}\n", encoding="utf-8")
    place = edge.Place(
        listen="8443",
        tls=parts / "edge",
        tracking="tracking:5000",
        health="health:5000",
        serve="serve:5000",
        scratch=Path("/tmp"),  # noqa: S108 - the container's own
        resolver="resolver 127.0.0.11 valid=10s;",
    )
    edge.write_configuration(parts / "edge", settings, place)
    for name, container in CONTAINERS.items():
        _give(parts / name, container)


def _give(folder: Path, container: Container) -> None:
    os.chown(folder, container.user, container.user)
    folder.chmod(0o500)
    for path in folder.iterdir():
        os.chown(path, container.user, container.user)
        path.chmod(0o700 if path.name in container.volumes else 0o400)


def _give_back(folder: Path, like: Path) -> None:
    """Give a folder to the owner of a file that the user brought, who then reads the passwords without sudo."""
    owner = like.stat()
    folder.chmod(0o700)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _welcome(settings: ServiceSettings) -> str:
    return f"""
The service will answer at {settings.url}
  first login: {settings.admin}, with the password in docker/secrets/{secrets.ADMIN_PASSWORD}
  certificate authority: docker/secrets/tls/ca.crt
Clients set, in the folder of the project:
  export MLFLOW_TRACKING_URI={settings.url}
  export MLFLOW_TRACKING_SERVER_CERT_PATH=docker/secrets/tls/ca.crt
  export MLFLOW_TRACKING_USERNAME={settings.admin}
  export MLFLOW_TRACKING_PASSWORD="$(cat docker/secrets/{secrets.ADMIN_PASSWORD})"
"""


def main() -> int:
    """Make the secrets and fill the folders; 1 when a secret is unfit."""
    parser = argparse.ArgumentParser(prog="python -m trainer.service.containers", description=main.__doc__)
    parser.add_argument("--secrets", type=Path, required=True, help="folder of the secrets, which the host has too")
    parser.add_argument("--parts", type=Path, required=True, help="volume with a folder for each container")
    parser.add_argument("--like", type=Path, required=True, help="file whose owner may read the secrets")
    given = parser.parse_args()
    try:
        settings = ServiceSettings.read()
        try:
            secrets.make(given.secrets, settings)
        finally:
            _give_back(given.secrets, given.like)
        fill(given.secrets, given.parts, settings)
    except EmotionsError as error:
        print(f"Error: {shorten(error, 300)}", file=sys.stderr)
        return 1
    print(_welcome(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
