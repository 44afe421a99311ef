"""PostgreSQL natively: finds its programs, makes the data folder and the database."""

import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

from trainer.core.errors import EmotionsError, SettingsError
from trainer.service import secrets
from trainer.service.native.part import Part
from trainer.service.settings import ServiceSettings

__all__ = ["account", "make_data", "make_database", "part", "programs"]

_DEBIAN = Path("/usr/lib/postgresql")
_ADDRESS = "127.0.0.1"
_NAME = "mlflow"


def programs(data: Path) -> Path:
    """Return the folder of the PostgreSQL programs: of the version of the data, else the newest.

    Raises SettingsError when no fitting version is installed.
    """
    found = {_major(folder): folder for folder in _DEBIAN.glob("*/bin") if (folder / "postgres").exists()}
    on_path = shutil.which("postgres")
    if on_path:
        found.setdefault(_major(Path(on_path).parent), Path(on_path).parent)
    if not found:
        raise SettingsError("PostgreSQL must be installed, but is not. Run: make service-setup")
    version = data / "PG_VERSION"
    if not version.exists():
        return found[max(found)]
    needed = int(version.read_text().strip())
    if needed not in found:
        raise SettingsError(
            f"{data} has the data of PostgreSQL {needed}, but installed is {', '.join(map(str, sorted(found)))}. "
            f"Install PostgreSQL {needed}, or set SERVICE_FOLDER to a new folder and restore a backup there."
        )
    return found[needed]


def make_data(data: Path, secret_folder: Path) -> None:
    """Make the data folder, with one user and its password, unless it is there; renamed into place when complete."""
    if data.exists():
        return
    partial = data.with_name(f".{data.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    # The server's user cannot read the secrets.
    password = partial.with_name(f".{data.name}.password")
    secrets.write_private(password, secrets.read(secret_folder, "postgres_password"))
    user = account()
    if user:
        shutil.chown(partial, user)
        shutil.chown(password, user)
    command = [
        str(programs(data) / "initdb"),
        "-D",
        str(partial),
        "-U",
        _NAME,
        "--auth=scram-sha-256",
        f"--pwfile={password}",
    ]
    options = ["--encoding=UTF8", "--locale=C.UTF-8"]
    try:
        done = subprocess.run([*command, *options], user=user, cwd=partial, capture_output=True, text=True, check=False)
    finally:
        password.unlink()
    if done.returncode:
        shutil.rmtree(partial)
        raise EmotionsError(f"PostgreSQL cannot make its data in {data} ({(done.stderr or done.stdout).strip()}).")
    partial.rename(data)


def part(data: Path, settings: ServiceSettings) -> Part:
    """Return the server, which listens on loopback only and has no Unix socket."""
    options = {
        "listen_addresses": _ADDRESS,
        "port": str(settings.postgres_port),
        "unix_socket_directories": "",
        "logging_collector": "off",
        "max_connections": "400",  # as with Docker
    }
    words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    return Part(
        name="postgres",
        command=[str(programs(data) / "postgres"), "-D", str(data), *words],
        ready=lambda: _is_ready(data, settings),
        user=account(),
        store=True,
        stop_signal="INT",  # ends the connections of clients; their transactions roll back
        stop_seconds=60,
    )


def make_database(settings: ServiceSettings, secret_folder: Path) -> None:
    """Make the database, unless it is there."""
    import psycopg

    with psycopg.connect(
        host=_ADDRESS,
        port=settings.postgres_port,
        user=_NAME,
        dbname="postgres",
        password=secrets.read(secret_folder, "postgres_password"),
        autocommit=True,
    ) as connection:
        if not connection.execute("select 1 from pg_database where datname = %s", [_NAME]).fetchone():
            connection.execute(f"create database {_NAME}")


def account() -> str | None:
    """Return the user whose rights the server has; None for the user of this process. It refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError as error:
        raise SettingsError(
            "The user `postgres` must exist when root starts the service. Install PostgreSQL."
        ) from error


def _is_ready(data: Path, settings: ServiceSettings) -> bool:
    command = [str(programs(data) / "pg_isready"), "-q", "-h", _ADDRESS, "-p", str(settings.postgres_port)]
    return subprocess.run(command, check=False).returncode == 0


def _major(folder: Path) -> int:
    answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return int(re.findall(r"\d+", answer)[0])
