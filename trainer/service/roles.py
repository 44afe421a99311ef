"""The roles of accounts on the tracking server: what each may do, as permissions of MLflow."""

from dataclasses import dataclass

__all__ = ["ADMIN", "ROLES", "SERVE", "Role"]

ADMIN = "admin"
"""No role of MLflow, but a property of an account: everything is allowed."""
SERVE = "serve"


@dataclass(frozen=True)
class Role:
    """What an account may do with all experiments and all registered models."""

    description: str
    experiments: str
    """Permission for experiments and their runs, models and artifacts."""
    models: str
    """Permission for registered models, their versions and aliases."""

    @property
    def grants(self) -> dict[str, str]:
        """Type of resource → permission, as MLflow names them."""
        return {"experiment": self.experiments, "registered_model": self.models}


# READ loads and lists; EDIT also creates and changes; MANAGE also deletes, and removing an alias is deleting.
ROLES = {
    "reader": Role("Browses, loads models and predicts", "READ", "READ"),
    "writer": Role("Creates experiments and logs runs; cannot write to the registry", "EDIT", "READ"),
    "promoter": Role("As writer; registers models, moves aliases, writes the decision log", "EDIT", "MANAGE"),
    SERVE: Role("Reads the champion to serve it", "READ", "READ"),
}
