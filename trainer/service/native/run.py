"""Start the service on this machine, and stop it when this process is stopped."""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from trainer.core import signals
from trainer.core.environment import child_environment
from trainer.core.errors import EmotionsError
from trainer.service import connections, secrets
from trainer.service.native import checks, edge, postgres, s3
from trainer.service.native.part import Part, answers, without_orphans
from trainer.service.native.supervisor import Supervisor, running
from trainer.service.settings import SETTINGS_FILE, ServiceSettings

__all__ = ["run", "service_folder"]

# What the parts inherit; everything else could be a secret or a setting of an MLflow client.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "PYTHONPATH", "http_proxy", "https_proxy")


def run(settings: ServiceSettings, say: Callable[[str], None] = print) -> None:
    """Start the parts, print how to use them, and return after a stop signal, when all have ended.

    Raises EmotionsError when the service cannot start or stops by itself; nothing runs afterwards.
    """
    try:
        with signals.raise_stops():
            _run(service_folder(settings), settings, say)
    except (KeyboardInterrupt, SystemExit) as stop:
        if not signals.is_stop(stop):
            raise
        say("The service has stopped. Its data is kept.")


def _run(folder: Path, settings: ServiceSettings, say: Callable[[str], None]) -> None:
    checks.check_folder(folder)
    if os.geteuid() == 0:
        say("Warning: root starts the service, so MLflow and SeaweedFS have root's rights. Start it as another user.")
    with checks.locked(folder):
        checks.check_programs(folder)
        checks.check_ports(settings)
        secrets.make(folder / "secrets", settings)
        postgres.make_data(folder / "postgres", folder / "secrets")
        parts = _parts(folder, settings)
        with running(parts, folder, _environment()) as process:
            _start(Supervisor(folder), parts, settings, say)
            say(_welcome(folder, settings))
            process.wait()
            raise EmotionsError(f"The supervisor ended by itself. Its log is {folder / 'logs/supervisord.log'}.")


def service_folder(settings: ServiceSettings) -> Path:
    """Return the folder of all data; a relative one is in the folder of the project."""
    return (SETTINGS_FILE.parents[1] / settings.folder).absolute()


def _start(
    supervisor: Supervisor, parts: Sequence[Part], settings: ServiceSettings, say: Callable[[str], None]
) -> None:
    for part in parts:
        supervisor.start(part)
        if part.name == "postgres":
            postgres.make_database(settings, supervisor.folder / "secrets")
        say(f"{part.name}: {'done' if part.once else 'started'}")


def _parts(folder: Path, settings: ServiceSettings) -> list[Part]:
    """Return the parts in the order of their start."""
    stores = connections.arguments(folder / "secrets", settings.postgres_port, settings.s3_port)
    scratch = folder / "tracking"
    scratch.mkdir(exist_ok=True, mode=0o700)
    module = [sys.executable, "-m"]
    receivers = [f"--health=127.0.0.1:{settings.health_port}", f"--serve=127.0.0.1:{settings.serve_port}"]
    prepare = ["trainer.service.prepare", *stores, "--backups", str(folder / "backups"), *receivers]
    server = [
        *("trainer.service.tracking_server", *stores),
        *("--scratch", str(scratch), "--port", str(settings.tracking_port)),
    ]
    front = edge.part(folder / "edge", settings, folder / "secrets" / "tls")
    parts = [
        postgres.part(folder / "postgres", settings),
        s3.part(folder / "s3", settings, folder / "secrets"),
        Part(name="prepare", command=[*module, *prepare], once=True),
        Part(
            name="tracking",
            command=without_orphans([*module, *server]),
            ready=lambda: answers(settings.tracking_port, f"{settings.prefix}/health"),
        ),
    ]
    tracking = ["--tracking", f"127.0.0.1:{settings.tracking_port}"]
    health = [
        *("trainer.service.health", *stores, *tracking, "--port", str(settings.health_port)),
        *("--backups", str(folder / "backups"), "--disk", str(folder)),
        *("--serve", f"127.0.0.1:{settings.serve_port}"),
    ]
    served = [
        *("trainer.service.champion_server", "--secrets", str(folder / "secrets"), *tracking),
        *("--port", str(settings.serve_port)),
    ]
    if settings.serve:
        # Its libraries load for seconds: until it answers, the health page would call it dead.
        ready = partial(answers, settings.serve_port, "/version")
        parts.append(Part(name="serve", command=[*module, *served], stop_seconds=40, ready=ready))
    page = Part(
        name="health",
        command=[*module, *health],
        ready=lambda: answers(settings.health_port, f"{settings.prefix}/status/metrics"),
    )
    return [*parts, page, front]


def _environment() -> dict[str, str]:
    inherited = child_environment()
    kept = {name: inherited[name] for name in _INHERITED if name in inherited}
    given = {name: value for name, value in os.environ.items() if name.startswith("SERVICE_")}
    return kept | given | {"NO_PROXY": "127.0.0.1,localhost", "PYTHONUNBUFFERED": "1"}


def _welcome(folder: Path, settings: ServiceSettings) -> str:
    authority = folder / "secrets" / "tls" / "ca.crt"
    password = folder / "secrets" / secrets.ADMIN_PASSWORD
    lines = [
        "",
        f"The service runs at {settings.url}",
        f"  first login: {settings.admin}, with the password in {password}",
        f"  certificate authority: {authority}" if authority.exists() else "",
        "Clients set:",
        f"  export MLFLOW_TRACKING_URI={settings.url}",
        f"  export MLFLOW_TRACKING_SERVER_CERT_PATH={shlex.quote(str(authority))}" if authority.exists() else "",
        f"  export MLFLOW_TRACKING_USERNAME={settings.admin}",
        f'  export MLFLOW_TRACKING_PASSWORD="$(cat {shlex.quote(str(password))})"',
        f"Ctrl-C stops it; the data stays in {folder}.",
    ]
    return "\n".join([lines[0], *filter(None, lines)])
