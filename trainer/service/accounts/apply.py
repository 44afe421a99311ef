"""Create the accounts of a file on the tracking server, and change those that differ.

`docker/users.sh FILE`, or `python -m trainer.service.accounts.apply FILE`. Repeating the command is safe.
"""

import argparse
import os
import secrets
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trainer.core.errors import EmotionsError, SettingsError, nearest
from trainer.service.accounts.roles import ADMIN, PROGRAMS, ROLES
from trainer.service.accounts.server import AccountServer, User, connected
from trainer.service.accounts.users_file import Account, read_password, read_users
from trainer.service.settings import SETTINGS_FILE, ServiceSettings

__all__ = ["Change", "main", "plan"]

_PASSWORD_BYTES = 24  # 32 characters


@dataclass(frozen=True)
class Change:
    """One difference between the file and the server."""

    text: str
    apply: Callable[[], object] = lambda: None
    """Does nothing when the difference is only reported."""


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 when the server has the accounts of the file, 1 after an error, which says what to correct."""
    given = _parser().parse_args(argv)
    try:
        settings = ServiceSettings.read()
        folder = given.secrets or _find_secrets(settings)
        accounts = read_users(given.file, folder)
        _check(accounts, given.new_password, settings.admin)
        with connected(settings, folder) as server:
            changes = list(plan(accounts, server, given.new_password, removes=given.remove))
            for change in changes:
                print(f"would {change.text}" if given.dry_run else change.text, flush=True)
                if not given.dry_run:
                    change.apply()
        print(f"{len(accounts)} accounts in {given.file}, {len(changes) or 'no'} differences")
    except EmotionsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def plan(
    accounts: Collection[Account], server: AccountServer, renewed: Collection[str] = (), *, removes: bool = False
) -> Iterator[Change]:
    """Yield what differs on the server, in the order in which it is to be changed.

    renewed: names whose password is made again. removes: accounts that the file does not name are removed.
    """
    roles, users = server.roles(), server.users()
    for name, role in ROLES.items():
        if name not in roles or {one.resource_type: one.permission for one in roles[name].permissions} != role.grants:
            yield Change(f"set the permissions of role {name}", partial(server.write_role, name))
    for account in accounts:
        if account.name in users:
            yield from _differences(account, users[account.name], server, renews=account.name in renewed)
        else:
            text = f"create {account.name} as {account.role}; password in {account.password_file}"
            yield Change(text, partial(_create, account, server))
    yield from _unnamed(accounts, users, server, removes=removes)


def _differences(account: Account, user: User, server: AccountServer, *, renews: bool) -> Iterator[Change]:
    name, file = account.name, account.password_file
    if user.roles != {account.role}:
        before = " and ".join(sorted(user.roles)) or "no role"
        text = f"change {name} from {before} to {account.role}"
        yield Change(text, partial(server.change_role, user, account.role))
    for permission, resource in _excess(account, user).items():
        text = f"revoke what {name} may do as creator of one {resource.replace('_', ' ')}"
        yield Change(text, partial(server.revoke, permission))
    if renews:
        yield Change(f"make a new password for {name}; it is in {file}", partial(_renew, account, server))
    elif file.is_file() and not server.accepts(name, password := read_password(file)):
        yield Change(f"set the password of {name} from {file}", partial(server.change_password, name, password))


def _excess(account: Account, user: User) -> dict[int, str]:
    """Return the personal permissions of a user that their role forbids: MLflow gives MANAGE to who creates a thing."""
    if account.role == ADMIN:
        return {}
    grants = ROLES[account.role].grants
    return {key: resource for key, resource in user.personal.items() if grants.get(resource, "READ") == "READ"}


def _unnamed(
    accounts: Collection[Account], users: Mapping[str, User], server: AccountServer, *, removes: bool
) -> Iterator[Change]:
    for name in sorted(users.keys() - {account.name for account in accounts} - {server.sender, *PROGRAMS}):
        if removes:
            yield Change(f"remove {name}, whom the file does not name", partial(server.remove, name))
        else:
            roles = " and ".join(sorted(users[name].roles)) or "no role"
            yield Change(f"keep {name} ({roles}), whom the file does not name; --remove removes such accounts")


def _create(account: Account, server: AccountServer) -> None:
    if not account.password_file.is_file():  # else of a command that was interrupted, or written by the admin
        _write_new(account.password_file)
    server.create(account.name, read_password(account.password_file), account.role)


def _renew(account: Account, server: AccountServer) -> None:
    """Make a password. The file comes first: after a stop between the two, the next command sets it on the server."""
    _write_new(account.password_file)
    server.change_password(account.name, read_password(account.password_file))


def _write_new(file: Path) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial_file = file.with_name(f".{file.name}.partial")
    partial_file.unlink(missing_ok=True)
    with os.fdopen(os.open(partial_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as opened:
        opened.write(secrets.token_urlsafe(_PASSWORD_BYTES) + "\n")
    partial_file.replace(file)


def _check(accounts: Collection[Account], renewed: Collection[str], admin: str) -> None:
    names = [account.name for account in accounts]
    for name in renewed:
        if name not in names:
            raise SettingsError(f"`new-password` must be a name in the file, got {name}.{nearest(name, names)}")
    for account in accounts:
        if account.name == admin:
            raise SettingsError(
                f"{admin} is the first admin, whom the server makes (SERVICE_ADMIN); remove it from the file. "
                "Its password is changed as docs/how-to/service-accounts.md says."
            )


def _find_secrets(settings: ServiceSettings) -> Path:
    """Return the folder with the password of the admin: that of `make service`, or that of compose."""
    folders = (settings.folder / "secrets", SETTINGS_FILE.parent / "secrets")
    found = [folder for folder in folders if (folder / "admin_password").is_file()]
    if len(found) != 1:
        state = "both have it" if found else "neither has it"
        raise SettingsError(
            f"The file admin_password must be in {folders[0]} (make service) or {folders[1]} (compose), but {state}. "
            "Name the folder: --secrets FOLDER."
        )
    return found[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="docker/users.sh", description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("file", type=Path, help="YAML file with lines `name: role`, such as users.example.yaml")
    parser.add_argument("--dry-run", action="store_true", help="say what differs and change nothing")
    parser.add_argument("--remove", action="store_true", help="remove accounts that the file does not name")
    parser.add_argument("--new-password", action="append", default=[], metavar="NAME", help="make a new password")
    parser.add_argument("--secrets", type=Path, metavar="FOLDER", help="folder of password files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
