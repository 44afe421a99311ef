"""The settings of the tracking server, which `docker compose` and `make service` share."""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import dotenv

from trainer.core.errors import SettingsError, nearest, shorten

__all__ = ["SETTINGS_FILE", "ServiceSettings"]

SETTINGS_FILE = Path(__file__).parents[2] / "docker" / ".env"
_PREFIX = "SERVICE_"
_SIZE = r"\d+[kmgKMG]?"
_HOST = r"[\w.-]+"


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """What `docker/.env` says; each field is there with the prefix SERVICE_ and in capitals."""

    host: str
    address: str
    port: int
    prefix: str
    admin: str
    workers: int
    model: str
    serve: bool
    artifact_limit: str
    request_limit: str
    disk_free: int
    backup_hours: int
    backup_keep: int
    dashboard_port: int
    train_memory: str
    folder: Path
    tracking_port: int
    postgres_port: int
    s3_port: int
    health_port: int
    serve_port: int

    @classmethod
    def read(cls, file: Path = SETTINGS_FILE, environment: Mapping[str, str] = os.environ) -> "ServiceSettings":
        """The settings of the file, with variables of the environment before them.

        Raises SettingsError that names the variable, the rule and the value.
        """
        listed = {name: value or "" for name, value in dotenv.dotenv_values(file, interpolate=False).items()}
        known = {_PREFIX + field.name.upper(): field for field in fields(cls)}
        for name in listed:
            if name not in known:
                raise SettingsError(f"`{name}` in {file} is unknown.{nearest(name, known)}")
        given = {name: environment.get(name, listed.get(name, "")) for name in known}
        values = {known[name].name: _typed(name, value, known[name].type) for name, value in given.items()}
        settings = cls(**values)
        settings._check()
        return settings

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the service, the first of which stands in printed URLs."""
        return tuple(name.strip() for name in self.host.split(",") if name.strip())

    @property
    def url(self) -> str:
        """MLFLOW_TRACKING_URI of a client."""
        return f"https://{self.hosts[0]}:{self.port}{self.prefix}"

    def _check(self) -> None:
        rules = (
            ("host", self.hosts and all(re.fullmatch(_HOST, one) for one in self.hosts), "must be names, with commas"),
            ("prefix", re.fullmatch(r"(/[\w.-]+)*", self.prefix), "must be empty or a path such as /mlflow"),
            ("address", _is_ipv4(self.address), "must be an IPv4 address"),
            ("admin", re.fullmatch(r"[\w.@-]+", self.admin), "must be a name without spaces"),
            ("request_limit", re.fullmatch(_SIZE, self.request_limit), "must be a size such as 8m"),
            ("artifact_limit", re.fullmatch(_SIZE, self.artifact_limit), "must be a size such as 20g"),
            ("workers", self.workers >= 1, "must be at least 1"),
            ("backup_keep", self.backup_keep >= 1, "must be at least 1"),
            ("disk_free", 0 <= self.disk_free < 100, "must be 0 to 99"),
        )
        for name, kept, rule in rules:
            if not kept:
                raise SettingsError(
                    f"`{_PREFIX}{name.upper()}` {rule}, got {shorten(getattr(self, name)) or 'nothing'}."
                )


def _is_ipv4(address: str) -> bool:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return True


def _typed(name: str, value: str, kind: object) -> Any:
    if kind is int:
        if not re.fullmatch(r"\d{1,9}", value):
            raise SettingsError(f"`{name}` must be a whole number, got {shorten(value) or 'nothing'}.")
        return int(value)
    if kind is bool:
        if value not in ("true", "false"):
            raise SettingsError(f"`{name}` must be true or false, got {value or 'nothing'}.")
        return value == "true"
    return Path(value) if kind is Path else value
