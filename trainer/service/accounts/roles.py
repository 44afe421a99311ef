"""The roles of accounts on the tracking server: what each may do, as permissions of MLflow."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ADMIN", "PROGRAMS", "ROLES", "SERVE", "Role"]

ADMIN = "admin"
"""No role of MLflow, but a property of an account: everything is allowed."""
SERVE = "serve"


@dataclass(frozen=True)
class Role:
    """What an account may do with everything on the server."""

    description: str
    grants: Mapping[str, str]
    """Type of resource → permission, as MLflow names them."""


# READ loads and lists; EDIT also creates and changes; MANAGE also deletes, and removing an alias is deleting.
_READS = {"experiment": "READ", "registered_model": "READ"}
_LOGS = {"experiment": "EDIT", "run": "MANAGE", "logged_model": "MANAGE"}

ROLES = {
    "reader": Role("Browses, loads models and predicts", _READS),
    "writer": Role("Creates experiments and logs runs; cannot write to the registry", _READS | _LOGS),
    "promoter": Role(
        "As writer; registers models, moves aliases, writes the decision log", _LOGS | {"registered_model": "MANAGE"}
    ),
    SERVE: Role("Reads the champion to serve it", _READS),
}

PROGRAMS = {SERVE: SERVE, "train": "writer"}
"""Account → role, of accounts that the service makes for its own programs; the password is the secret NAME_password."""
