"""What backup, restore, clean-up and upgrade share: their arguments, the stores of the service, errors and stops."""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainer.core import signals
from trainer.core.errors import EmotionsError, SettingsError, shorten
from trainer.service.connections import open_stores
from trainer.service.settings import ServiceSettings
from trainer.service.stores import Stores

__all__ = ["Service", "run_command"]


@dataclass(frozen=True)
class Service:
    """The service that a command works on."""

    settings: ServiceSettings
    stores: Stores
    secrets: Path
    backups: Path
    """Folder of all backups."""


def run_command(
    parser: argparse.ArgumentParser,
    act: Callable[[argparse.Namespace, Service], None],
    argv: list[str] | None,
) -> int:
    """Do what the command line says; return the exit status. Files that it makes are for this user alone.

    Without `--secrets`, `--database` and `--s3` the service is the one of `make service` on this machine.
    """
    _add_arguments(parser)
    os.umask(0o077)
    try:
        with signals.raise_stops():
            given = parser.parse_args(argv)
            act(given, _open(given))
    except EmotionsError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"Error: {error.strerror or error} ({shorten(error.filename or 'no file')}).", file=sys.stderr)
        return 1
    return 0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where the service is", "by default on this machine, from `make service`")
    group.add_argument("--secrets", type=Path, help="folder of the secrets")
    group.add_argument("--database", help="HOST:PORT of PostgreSQL")
    group.add_argument("--s3", help="HOST:PORT of the S3 server")
    group.add_argument("--backups", type=Path, help="folder of the backups")


def _open(given: argparse.Namespace) -> Service:
    settings = ServiceSettings.read()
    secret_folder, backups = given.secrets, given.backups
    if secret_folder is None or backups is None:
        from trainer.service.native.run import service_folder  # the image has no supervisor

        secret_folder = secret_folder or service_folder(settings) / "secrets"
        backups = backups or service_folder(settings) / "backups"
    if not secret_folder.is_dir():
        raise SettingsError(
            f"The service must have its secrets in {shorten(secret_folder)}, but there is no such folder. Start it "
            "once with `make service`, or name the folder of its data in SERVICE_FOLDER."
        )
    stores = open_stores(
        secret_folder,
        given.database or f"127.0.0.1:{settings.postgres_port}",
        given.s3 or f"127.0.0.1:{settings.s3_port}",
    )
    return Service(settings, stores, secret_folder, backups)
