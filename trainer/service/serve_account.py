"""The roles, and the account of `registry.serve`, made before the tracking server starts."""

from typing import TYPE_CHECKING

from trainer.service.roles import ROLES, SERVE

if TYPE_CHECKING:
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

__all__ = ["make_serve_account"]

_WORKSPACE = "default"


def make_serve_account(store: "SqlAlchemyStore", password: str) -> None:
    """Make the roles that are missing, and the account `serve` with this password. store: MLflow's of accounts."""
    known = {role.name: role for role in store.list_roles([_WORKSPACE])}
    for name, role in ROLES.items():
        if name not in known:
            known[name] = store.create_role(name, _WORKSPACE, role.description)
            for resource, permission in role.grants.items():
                store.add_role_permission(known[name].id, resource, "*", permission)
    if not store.has_user(SERVE):
        store.assign_role_to_user(store.create_user(SERVE, password).id, known[SERVE].id)
    elif not store.authenticate_user(SERVE, password):
        store.update_user(SERVE, password=password)
