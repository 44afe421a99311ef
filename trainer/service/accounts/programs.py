"""The roles, and the accounts of the service's own programs, made before the tracking server starts."""

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.service import secrets
from trainer.service.accounts.roles import PROGRAMS, ROLES

if TYPE_CHECKING:
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

__all__ = ["make_program_accounts"]

_WORKSPACE = "default"


def make_program_accounts(store: "SqlAlchemyStore", secret_folder: Path) -> None:
    """Make the roles and the accounts of PROGRAMS that are missing. store: that of MLflow's accounts."""
    known = {role.name: role for role in store.list_roles([_WORKSPACE])}
    for name, role in ROLES.items():
        if name not in known:
            known[name] = store.create_role(name, _WORKSPACE, role.description)
            for resource, permission in role.grants.items():
                store.add_role_permission(known[name].id, resource, "*", permission)
    for name, role_name in PROGRAMS.items():
        password = secrets.read(secret_folder, f"{name}_password")
        if not store.has_user(name):
            store.assign_role_to_user(store.create_user(name, password).id, known[role_name].id)
        elif not store.authenticate_user(name, password):
            store.update_user(name, password=password)
