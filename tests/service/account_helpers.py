"""Accounts of a running service, made for tests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from tests.service.running import RunningService
from trainer.service.accounts.apply import plan
from trainer.service.accounts.roles import ADMIN, ROLES
from trainer.service.accounts.server import AccountServer, User, connected
from trainer.service.accounts.users_file import Account, read_password
from trainer.service.settings import ServiceSettings

__all__ = ["change_role", "make_accounts"]


def make_accounts(service: RunningService, prefix: str, folder: Path) -> dict[str, tuple[str, str]]:
    """Make an account `prefix-role` of each role; return role → name and password. folder: takes password files."""
    accounts = [Account(f"{prefix}-{role}", role, folder / role, is_given=False) for role in (ADMIN, *ROLES)]
    with _server(service) as server:
        for change in plan(accounts, server):
            change.apply()
    return {account.role: (account.name, read_password(account.password_file)) for account in accounts}


def change_role(service: RunningService, name: str, before: str, after: str) -> None:
    """Give an account another role."""
    with _server(service) as server:
        server.change_role(User(name, frozenset({before}), {}), after)


@contextmanager
def _server(service: RunningService) -> Iterator[AccountServer]:
    with (
        mock.patch.dict(os.environ, service.environment()),
        connected(ServiceSettings.read(), service.folder / "secrets") as server,
    ):
        yield server
