"""nginx natively: ends TLS in front of the other parts, with the configuration that compose has too."""

import grp
import os
import pwd
import shutil
import string
from dataclasses import dataclass
from pathlib import Path

from trainer.core.errors import SettingsError
from trainer.service.native.part import Part, answers, without_orphans
from trainer.service.settings import SETTINGS_FILE, ServiceSettings

__all__ = ["Place", "part", "program", "write_configuration"]

_TEMPLATE = SETTINGS_FILE.with_name("nginx.conf.template")
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_MAIN = """\
daemon off;
pid "$scratch/nginx.pid";
error_log stderr warn;
worker_processes 2;
$user
events { worker_connections 1024; }
http {
    default_type application/octet-stream;
$temporary
    include "$folder/edge.conf";
}
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where nginx stands: natively or in a container."""

    listen: str
    tls: Path
    tracking: str
    health: str
    serve: str
    scratch: Path
    """Folder for files of a running nginx."""
    resolver: str = ""
    """Directive that looks up names which change their address."""
    user: str = ""
    """Directive that takes root's rights from the processes that talk to clients."""


def part(folder: Path, settings: ServiceSettings, tls: Path) -> Part:
    """Return nginx; writes its configuration."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)  # nginx's own user writes large bodies to a folder in it
    for name in _TEMPORARY:
        (folder / name).mkdir(exist_ok=True, mode=0o700)
    place = Place(
        listen=f"{settings.address}:{settings.port}",
        tls=tls,
        tracking=f"127.0.0.1:{settings.tracking_port}",
        health=f"127.0.0.1:{settings.health_port}",
        serve=f"127.0.0.1:{settings.serve_port}",
        scratch=folder,
        user=_user(),
    )
    write_configuration(folder, settings, place)
    return Part(
        name="edge",
        command=without_orphans([program(), "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]),
        ready=lambda: _is_ready(settings, tls),
        stop_signal="QUIT",  # finishes the requests that it has
        stop_seconds=10,
    )


def write_configuration(folder: Path, settings: ServiceSettings, place: Place) -> None:
    """Write nginx.conf, and edge.conf from the template, which hold no secrets."""
    temporary = "\n".join(f'    {name}_temp_path "{place.scratch / name}";' for name in _TEMPORARY)
    main = string.Template(_MAIN).substitute(folder=folder, scratch=place.scratch, temporary=temporary, user=place.user)
    (folder / "nginx.conf").write_text(main, encoding="utf-8")
    (folder / "edge.conf").write_text(_configuration(settings, place), encoding="utf-8")


def program() -> str:
    """Return the path of nginx. Raises SettingsError when it is not installed."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if not found:
        raise SettingsError("nginx must be installed, but is not. Run: make service-setup")
    return found


def _configuration(settings: ServiceSettings, place: Place) -> str:
    values = {
        "EDGE_LISTEN": place.listen,
        "EDGE_NAMES": " ".join(dict.fromkeys((*settings.hosts, "127.0.0.1"))),
        "EDGE_CERTIFICATE": str(place.tls / "server.crt"),
        "EDGE_KEY": str(place.tls / "server.key"),
        "EDGE_PREFIX": settings.prefix,
        "EDGE_TRACKING": place.tracking,
        "EDGE_HEALTH": place.health,
        "EDGE_SERVE": place.serve,
        "EDGE_REQUEST_LIMIT": settings.request_limit,
        "EDGE_ARTIFACT_LIMIT": settings.artifact_limit,
        "EDGE_RESOLVER": place.resolver,
    }
    return string.Template(_TEMPLATE.read_text(encoding="utf-8")).safe_substitute(values)


def _user() -> str:
    """Return the directive of `Place.user`."""
    if os.geteuid() != 0:
        return ""
    for name in ("www-data", "nginx", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return f"user {name} {grp.getgrgid(account.pw_gid).gr_name};"
    raise SettingsError("One of the users www-data, nginx and nobody must exist when root starts the service.")


def _is_ready(settings: ServiceSettings, tls: Path) -> bool:
    """Return whether MLflow answers through the edge."""
    address = "127.0.0.1" if settings.address == "0.0.0.0" else settings.address  # noqa: S104 - compared only
    return answers(settings.port, f"{settings.prefix}/health", address, settings.hosts[0], tls)
