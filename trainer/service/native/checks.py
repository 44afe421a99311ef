"""What must hold before anything is started or written."""

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from trainer.core.errors import SettingsError
from trainer.service.native import edge, postgres, s3
from trainer.service.native.supervisor import socket_path
from trainer.service.settings import ServiceSettings

__all__ = ["check_folder", "check_ports", "check_programs", "locked"]

_SOCKET_BYTES = 107  # of Linux; macOS has 103
_PROCESS_BYTES = 8  # supervisord makes the socket with its process id behind the name


def check_folder(folder: Path) -> None:
    """Raise SettingsError when the folder cannot hold the service; makes it when it is missing."""
    longest = len(os.fsencode(socket_path(folder))) + _PROCESS_BYTES
    if longest > _SOCKET_BYTES:
        raise SettingsError(
            f"`SERVICE_FOLDER` must be at most {_SOCKET_BYTES - longest + len(os.fsencode(folder))} bytes long, for "
            f"the sockets in it, got {folder}. Set it to a shorter path."
        )
    _check_path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    except OSError as error:
        raise SettingsError(f"Cannot make `SERVICE_FOLDER` {folder} ({error.strerror}).") from error
    if folder.stat().st_uid != os.geteuid():
        raise SettingsError(
            f"`SERVICE_FOLDER` must belong to the user who starts the service, but {folder} belongs to user number "
            f"{folder.stat().st_uid}. Start it as that user, or set another folder."
        )
    # As root, PostgreSQL and nginx have other users, who must get through to their own folders.
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)


def _check_path(folder: Path) -> None:
    """Raise SettingsError when the users of PostgreSQL and nginx, which root's service has, cannot reach the folder."""
    if os.geteuid() != 0:
        return
    for parent in folder.parents:
        if parent.exists() and not parent.stat().st_mode & stat.S_IXOTH:
            raise SettingsError(
                f"`SERVICE_FOLDER` must be in folders that every user may enter, for root's service runs PostgreSQL "
                f"as another user, but {parent} is closed to others. Set another folder, or start the service as a "
                "user who is not root."
            )


def check_programs(folder: Path) -> None:
    """Raise SettingsError when a program is missing or cannot use the data that is there."""
    postgres.programs(folder / "postgres")
    edge.program()
    s3.program()


def check_ports(settings: ServiceSettings) -> None:
    """Raise SettingsError that names the setting of a port that something else listens on."""
    wanted = [
        ("SERVICE_PORT", settings.address, settings.port),
        ("SERVICE_TRACKING_PORT", "127.0.0.1", settings.tracking_port),
        ("SERVICE_POSTGRES_PORT", "127.0.0.1", settings.postgres_port),
        *(("SERVICE_S3_PORT", "127.0.0.1", settings.s3_port + index) for index in range(s3.PORTS)),
        ("SERVICE_HEALTH_PORT", "127.0.0.1", settings.health_port),
        ("SERVICE_SERVE_PORT", "127.0.0.1", settings.serve_port),
    ]
    with contextlib.ExitStack() as probes:  # all at once: two settings must not name the same port
        for name, address, port in wanted:
            probe = probes.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                probe.listen()
            except (OSError, OverflowError) as error:
                raise SettingsError(
                    f"Port {port} of {address} cannot be used ({error}). Stop what listens there, or set "
                    f"`{name}` to another."
                ) from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a service folder. Raises SettingsError when another process has it."""
    with (folder / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise SettingsError(
                f"The service of {folder} runs already, as process {file.read().strip()}. Stop that one first."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
