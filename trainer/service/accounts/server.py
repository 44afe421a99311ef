"""The accounts that a tracking server has, read and changed over its API as an admin."""

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.core.errors import EmotionsError, TrackingError, shorten
from trainer.core.redaction import redact
from trainer.service.accounts.roles import ADMIN, ROLES
from trainer.service.settings import ServiceSettings

if TYPE_CHECKING:
    from mlflow.server.auth.client import AuthServiceClient
    from mlflow.server.auth.entities import Role

__all__ = ["AccountServer", "User", "connected"]

_WORKSPACE = "default"
_PERSONAL = re.compile(r"__user_\d+__")
"""Name of the role in which MLflow keeps what one user was granted, such as MANAGE of an experiment of theirs."""
_UNAUTHORIZED, _FORBIDDEN = 401, 403


@dataclass(frozen=True)
class User:
    """An account as the server has it."""

    name: str
    roles: frozenset[str]
    """Names of roles, and `admin`."""
    personal: Mapping[int, str]
    """Id → type of resource, of permissions that this account alone has."""


class AccountServer:
    """Accounts and roles of one tracking server. `sender`: the admin whose password is used."""

    def __init__(self, client: "AuthServiceClient", sender: str) -> None:
        self.sender = sender
        self._client = client

    def users(self) -> dict[str, User]:
        """Return the accounts by name."""
        answer = self._client._request("/api/2.0/mlflow/users/list", "GET")  # MLflow's client lacks this call
        return {user["username"]: _read_user(user) for user in answer["users"]}

    def roles(self) -> "dict[str, Role]":
        """Return the roles that the server has, of those in ROLES."""
        return {role.name: role for role in self._client.list_roles(_WORKSPACE) if role.name in ROLES}

    def write_role(self, name: str) -> None:
        """Create a role, or give it exactly the permissions of ROLES."""
        known = self.roles().get(name) or self._client.create_role(_WORKSPACE, name, ROLES[name].description)
        for permission in known.permissions:
            self._client.remove_role_permission(permission.id)
        for resource, permission in ROLES[name].grants.items():
            self._client.add_role_permission(known.id, resource, "*", permission)

    def create(self, name: str, password: str, role: str) -> None:
        """Create an account with a role."""
        self._client.create_user(name, password)
        self.change_role(User(name, frozenset(), {}), role)

    def change_role(self, user: User, role: str) -> None:
        """Give an account exactly this role. Not atomic: the new role comes first, so that none is lost by a stop."""
        ids = {one.name: one.id for one in self._client.list_roles(_WORKSPACE)}
        if role == ADMIN and ADMIN not in user.roles:
            self._client.update_user_admin(user.name, is_admin=True)
        elif role != ADMIN and role not in user.roles:
            self._client.assign_role(user.name, ids[role])
        for other in user.roles - {role}:
            if other == ADMIN:
                self._client.update_user_admin(user.name, is_admin=False)
            else:
                self._client.unassign_role(user.name, ids[other])

    def revoke(self, permission: int) -> None:
        """Take a personal permission away."""
        self._client.remove_role_permission(permission)

    def change_password(self, name: str, password: str) -> None:
        """Set a password; the old one is refused from now on, by other processes of the server within 10 seconds."""
        self._client.update_user_password(name, password)

    def accepts(self, name: str, password: str) -> bool:
        """Return whether the server lets this account in with this password."""
        import requests

        url = f"{self._client.tracking_uri}/api/2.0/mlflow/users/current"
        verify = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True
        return requests.get(url, auth=(name, password), verify=verify, timeout=30).status_code != _UNAUTHORIZED

    def remove(self, name: str) -> None:
        """Delete an account and its personal permissions; its runs and models stay."""
        self._client.delete_user(name)


@contextmanager
def connected(settings: ServiceSettings, secrets: Path) -> Iterator[AccountServer]:
    """Yield the server of MLFLOW_TRACKING_URI, by default the service on this machine, as an admin.

    An error of the server becomes a TrackingError.
    """
    url = os.environ.get("MLFLOW_TRACKING_URI") or settings.url
    sender = os.environ.setdefault("MLFLOW_TRACKING_USERNAME", settings.admin)
    if "MLFLOW_TRACKING_PASSWORD" not in os.environ:
        os.environ["MLFLOW_TRACKING_PASSWORD"] = (secrets / "admin_password").read_text("utf-8").rstrip("\r\n")
    if (secrets / "tls" / "ca.crt").is_file():
        os.environ.setdefault("MLFLOW_TRACKING_SERVER_CERT_PATH", str(secrets / "tls" / "ca.crt"))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():  # of libraries: MLflow keeps this client in its server
        warnings.simplefilter("ignore")
        from mlflow.server.auth.client import AuthServiceClient

    try:
        yield AccountServer(AuthServiceClient(url), sender)
    except EmotionsError:
        raise
    except Exception as error:
        raise TrackingError(
            f"Cannot change accounts on {redact(url)} ({shorten(redact(str(error)))}). {_advice(error, sender)}"
        ) from None  # the cause may repeat the address with its password


def _read_user(user: Mapping[str, Any]) -> User:
    roles = {role["name"] for role in user["roles"] if not _PERSONAL.fullmatch(role["name"])}
    personal = {
        permission["id"]: permission["resource_type"]
        for role in user["roles"]
        if _PERSONAL.fullmatch(role["name"])
        for permission in role["permissions"]
    }
    return User(user["username"], frozenset(roles | ({ADMIN} if user["is_admin"] else set())), personal)


def _advice(error: Exception, sender: str) -> str:
    text = str(error)
    if f"error code {_UNAUTHORIZED}" in text:
        return f"Give the present password of {sender} with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
    if f"error code {_FORBIDDEN}" in text:
        return f"{sender} is no admin, or the host name is not in SERVICE_HOST. An admin gives the role."
    if "error code 404" in text:
        return "What answers there has no accounts: correct MLFLOW_TRACKING_URI, or start the service."
    return "Start the service, or correct MLFLOW_TRACKING_URI; then run the same command again."
