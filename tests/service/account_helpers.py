"""Accounts of a running service, made for tests."""

import os
from pathlib import Path
from unittest import mock

from tests.service.running import RunningService
from trainer.service.account_server import connected
from trainer.service.accounts import plan
from trainer.service.roles import ADMIN, ROLES
from trainer.service.settings import ServiceSettings
from trainer.service.users_file import Account, read_password

__all__ = ["make_accounts"]


def make_accounts(service: RunningService, prefix: str, folder: Path) -> dict[str, tuple[str, str]]:
    """Make an account `prefix-role` of each role; return role → name and password. folder: takes password files."""
    accounts = [Account(f"{prefix}-{role}", role, folder / role, is_given=False) for role in (ADMIN, *ROLES)]
    with (
        mock.patch.dict(os.environ, service.environment()),
        connected(ServiceSettings.read(), folder) as server,
    ):
        for change in plan(accounts, server):
            change.apply()
    return {account.role: (account.name, read_password(account.password_file)) for account in accounts}
