"""Reads and checks the file of users before anything is changed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.core.errors import SettingsError, nearest, shorten
from trainer.core.input_files import read_text, read_yaml, show_path
from trainer.service.accounts.roles import ADMIN, ROLES
from trainer.service.secrets import check_password

__all__ = ["Account", "read_password", "read_users"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")  # also the name of the password's file
_FIELDS = ("role", "password_file")
_KINDS = (ADMIN, *ROLES)


@dataclass(frozen=True)
class Account:
    """One user of the file."""

    name: str
    role: str
    password_file: Path
    """Holds the password, or will hold the one that is made."""
    is_given: bool
    """The file is named by the user, so that it must exist."""


def read_users(file: Path, secrets: Path) -> list[Account]:
    """Return the accounts that a file names. secrets: folder of password files.

    Raises SettingsError for an unknown role, a name that is given twice or that MLflow or HTTP cannot have, and a
    password file that is missing or has a weak password.
    """
    try:
        content = read_yaml(file)
    except ValueError as error:
        raise SettingsError(f"Cannot read the file of users {show_path(file)}: {error}.") from error
    if not isinstance(content, dict) or not content:
        raise SettingsError(f"The file of users {show_path(file)} must have lines `name: role`, got none.")
    accounts = [_account(name, value, file, secrets) for name, value in content.items()]
    _check_unique([account.name for account in accounts])
    for account in accounts:
        if account.is_given:
            read_password(account.password_file)
    return accounts


def read_password(file: Path) -> str:
    """Return the password in a file. Raises SettingsError when it is missing or weak; it is never shown."""
    try:
        password = read_text(file).rstrip("\r\n")
    except ValueError as error:
        raise SettingsError(f"Cannot read password file {show_path(file)}: {error}.") from error
    if not password or not password.isprintable():
        raise SettingsError(
            f"The password in {show_path(file)} must be one line of printable characters. Write another, or delete the "
            "file: then one is made."
        )
    check_password(f"The password in {show_path(file)}", password, file.name)
    return password


def _account(name: object, value: object, file: Path, secrets: Path) -> Account:
    if not isinstance(name, str) or not _NAME.fullmatch(name):  # YAML reads `no: reader` and `1: reader` otherwise
        raise SettingsError(
            f"Each name in {show_path(file)} must have 1 to 64 letters, digits and . _ @ - (quoted where YAML "
            f"reads a number or a truth value), got {shorten(name)}."
        )
    fields = {"role": value} if isinstance(value, str) else _fields(name, value)
    role = fields["role"]
    if role not in _KINDS:
        raise SettingsError(
            f"`role` of {name} must be one of {', '.join(_KINDS)}, got {shorten(role)}.{nearest(str(role), _KINDS)}"
        )
    given = fields.get("password_file")
    return Account(name, role, secrets / (given or f"users/{name}"), is_given=given is not None)


def _fields(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict) or "role" not in value:
        raise SettingsError(f"User {name} must have a role: `{name}: writer`, got {shorten(value)}.")
    for field in value:
        if field not in _FIELDS:
            raise SettingsError(f"`{shorten(field)}` of {name} is unknown.{nearest(str(field), _FIELDS)}")
    if not isinstance(value.get("password_file", ""), str):
        raise SettingsError(f"`password_file` of {name} must be a path, got {shorten(value['password_file'])}.")
    return value


def _check_unique(names: list[str]) -> None:
    """Raise SettingsError for two names that differ in case alone: their password files may be one file."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise SettingsError(f"Names must differ in more than upper and lower case, got {other} and {name}.")
