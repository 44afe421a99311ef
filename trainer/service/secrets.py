"""The secrets of the service: one file each, which its owner alone may read.

`python -m trainer.service.secrets FOLDER` makes what is missing and checks what is there; docker/init.sh calls it.
"""

import argparse
import os
import secrets
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.fernet import Fernet

from trainer.core.errors import EmotionsError, SettingsError, shorten
from trainer.service import certificates
from trainer.service.settings import ServiceSettings

__all__ = ["ADMIN_PASSWORD", "check", "check_password", "main", "make", "read", "write_private"]

ADMIN_PASSWORD = "admin_password"  # noqa: S105 - the name of its file
PASSWORD_CHARACTERS = 12
"""The fewest that MLflow takes."""
_STRENGTH = 3
"""Of zxcvbn's 0 to 4: at least 10^8 guesses."""
_MOST_CHARACTERS = 72
"""That zxcvbn reads."""


def _random() -> str:
    return secrets.token_urlsafe(24)


_MADE_BY: Mapping[str, Callable[[], str]] = {
    ADMIN_PASSWORD: _random,
    "flask_secret_key": _random,
    "postgres_password": _random,
    "s3_access_key": _random,
    "s3_secret_key": _random,
    "webhook_key": lambda: Fernet.generate_key().decode(),
    "webhook_secret": _random,
    "serve_password": _random,
    "train_password": _random,
    "studies_password": _random,  # of the user that owns Optuna's database, with Docker
}
_PGPASS = "pgpass"


def make(folder: Path, settings: ServiceSettings) -> None:
    """Make the secrets and certificates that are missing, and check all of them."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, new in _MADE_BY.items():
        if not (folder / name).exists():
            write_private(folder / name, new())
    certificates.make(folder / "tls", settings.hosts)
    check(folder, settings)
    # libpq reads this file, so no process has the password in its command line or environment.
    password = read(folder, "postgres_password").replace("\\", "\\\\").replace(":", "\\:")
    write_private(folder / _PGPASS, f"*:*:*:*:{password}")


def check(folder: Path, settings: ServiceSettings) -> None:
    """Raise SettingsError when a secret is missing, weak or readable by others, or a certificate unfit."""
    for name in _MADE_BY:
        value = read(folder, name)
        check_password(f"{folder / name}", value, settings.admin)
    try:
        Fernet(read(folder, "webhook_key"))
    except ValueError as error:
        raise SettingsError(f"{folder / 'webhook_key'} must be a Fernet key. Delete it for a new one.") from error
    certificates.check(folder / "tls")


def check_password(what: str, value: str, *known: str) -> None:
    """Raise SettingsError when a password is short or easily guessed; `what` names it.

    known: words that a stranger tries first, such as the name of the account.
    """
    from zxcvbn import zxcvbn

    if len(value) < PASSWORD_CHARACTERS:
        raise SettingsError(f"{what} must have at least {PASSWORD_CHARACTERS} characters, but has {len(value)}.")
    if zxcvbn(value[:_MOST_CHARACTERS], ["mlflow", "emotions", *known])["score"] < _STRENGTH:
        raise SettingsError(
            f"{what} must be hard to guess, but is not. Choose another, or delete the file for a new one."
        )


def read(folder: Path, name: str) -> str:
    """Return a secret. Raises SettingsError when its file is missing or readable by others."""
    path = folder / name
    try:
        mode = path.stat().st_mode
        value = path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"Cannot read the secret {path} ({error}). A start of the service makes it.") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingsError(f"{path} must be readable by its owner only. Run: chmod 600 {path}")
    if "\n" in value or "\0" in value:
        raise SettingsError(f"{path} must hold one line.")
    return value


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read; it is the old or the new one after a crash."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(f"{text}\n")
    partial.replace(path)


def main() -> int:
    """Make and check the secrets of a folder; 1 when one is unfit."""
    parser = argparse.ArgumentParser(prog="docker/init.sh", description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docker/secrets"))
    folder = parser.parse_args().folder
    try:
        make(folder, ServiceSettings.read())
    except EmotionsError as error:
        print(f"Error: {shorten(error, 300)}", file=sys.stderr)
        return 1
    print(f"Secrets and certificates are in {folder}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
