"""Runs below another run, created for child processes, which open them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trainer.tracking.backend import MlflowBackend
from trainer.tracking.connection import readable_errors

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["PARENT", "create_nested_run"]

PARENT = "mlflow.parentRunId"


def create_nested_run(backend: MlflowBackend, parent: "Run", name: str, tags: Mapping[str, object]) -> str:
    """Return the id of a new run below `parent`. Raises TrackingError when the server fails."""
    from mlflow.tracking.context.registry import resolve_tags

    texts = {key: str(value) for key, value in tags.items()}
    with readable_errors(backend):
        run = backend.create_run(
            parent.info.experiment_id,
            # User, source and commit, which `mlflow.start_run` adds and a client does not.
            {**resolve_tags(), **texts, PARENT: parent.info.run_id},
            name,
        )
    return str(run.info.run_id)
