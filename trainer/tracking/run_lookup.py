"""Finds the run of a command on the tracking server, or creates it."""

import os
from typing import TYPE_CHECKING

from trainer.core import artifacts
from trainer.core.errors import TrackingError
from trainer.core.redaction import redact
from trainer.tracking import page
from trainer.tracking.backend import MlflowBackend
from trainer.tracking.refusals import explain_refusal

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["MissingRunError", "existing_run", "experiment_id", "find_or_create_run", "search_runs"]

_PAGE = 1000
_RESUME_ADVICE = "Or give the id of another run there, or start a new run without `resume`."


class MissingRunError(TrackingError):
    """The server does not have a run: its database is another one, or an older one."""


def find_or_create_run(
    backend: MlflowBackend, experiment: str | None, resume: str | None, project_run: str | None, name: str | None
) -> "Run":
    """Return the run to resume, else the one that `mlflow run` made, else a new one.

    Raises TrackingError when it does not exist or is deleted.
    """
    from mlflow.tracking.context.registry import resolve_tags

    if resume is not None:
        return existing_run(backend, resume, _RESUME_ADVICE)
    if project_run is None:
        # Unlike `mlflow.start_run`, the client sets no tags of user, source and commit by itself.
        return backend.create_run(experiment_id(backend, experiment), resolve_tags(), name)
    run = backend.run(project_run)
    if name:
        page.name_run(backend.client, run, name)
    return run


def existing_run(backend: MlflowBackend, run_id: str, advice: str) -> "Run":
    """Return a run. Raises MissingRunError when there is none, TrackingError when it is deleted. advice: ends both."""
    from mlflow.exceptions import MlflowException

    server = redact(backend.uri)
    try:
        run = backend.run(run_id)
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:  # the second: no id at all
            raise
        raise MissingRunError(f"Run {run_id} does not exist on {server}. {advice}") from error
    if run.info.lifecycle_stage != "active":
        raise TrackingError(
            f"Run {run_id} is deleted on {server}. Restore it: `mlflow runs restore --run-id {run_id}`. {advice}"
        )
    return run


def experiment_id(backend: MlflowBackend, name: str | None) -> str:
    """Return the id of the experiment with this name, by default that of the environment; created when it is new.

    Raises TrackingError when it is deleted.
    """
    from mlflow.exceptions import MlflowException

    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if name is None and (given := os.environ.get("MLFLOW_EXPERIMENT_ID")):
        return given
    name = name or artifacts.DEFAULT_EXPERIMENT
    # Created before it is looked up: of two first runs at one time, one creates it and the other finds it.
    refusal = None
    try:
        made = backend.create_experiment(name, page.new_experiment_tags())
        if made is not None:
            return made
    except MlflowException as error:
        if explain_refusal(error) is None:
            raise
        refusal = error  # who may not create experiments may still log to one
    found = backend.client.get_experiment_by_name(name)
    if found is None and refusal is not None:
        raise refusal
    if found is None or found.lifecycle_stage != "active":
        raise TrackingError(
            f"Experiment {name} is deleted. Restore it (`mlflow experiments restore`), or name another with "
            f"MLFLOW_EXPERIMENT_NAME."
        )
    return found.experiment_id


def search_runs(client: "MlflowClient", experiment_id: str, query: str = "") -> "list[Run]":
    """Return all runs of an experiment that fit MLflow's filter, the newest first."""
    runs: list[Run] = []
    token = None
    while True:
        page_of_runs = client.search_runs([experiment_id], query, max_results=_PAGE, page_token=token)
        runs += page_of_runs
        token = page_of_runs.token
        if not token:
            return runs
