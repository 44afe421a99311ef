"""What MLflow's page shows of experiments and runs beside their events: kind, names, descriptions, links."""

import re
from typing import TYPE_CHECKING

from trainer.core import artifacts

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = [
    "address",
    "describe_command",
    "describe_experiment",
    "describe_failure",
    "describe_resuming",
    "failure_note",
    "name_run",
    "new_experiment_tags",
]

# MLflow's type of an experiment that trains models. The page of MLflow 3.17 does not read it: it opens in the mode that
# was chosen last, or that the address names (`?workflowType=machine_learning`). Earlier pages do.
_KIND = {"mlflow.experimentKind": "custom_model_development"}
_NOTE = (
    "Text classifiers with many rare labels: training runs, searches with a nested run for each trial, promotions and "
    "batch predictions. The description of a run has its scores; `scores.json`, `per_label.json`, `errors.json` and "
    "`report.html` are among its artifacts."
)
_GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")  # such as efficient-owl-170, by MLflow for a run without a name
_ENTRY_POINT = "mlflow.project.entryPoint"


def new_experiment_tags(name: str) -> dict[str, str]:
    """Return the tags of an experiment that is created for runs of this project."""
    return _KIND | ({artifacts.TAG_NOTE: _NOTE} if name == artifacts.DEFAULT_EXPERIMENT else {})


def describe_experiment(client: "MlflowClient", experiment_id: str) -> None:
    """Set the tags of `new_experiment_tags` that an experiment lacks: `mlflow run` creates it without them."""
    experiment = client.get_experiment(experiment_id)
    for tag, text in new_experiment_tags(experiment.name).items():
        if tag not in experiment.tags:
            client.set_experiment_tag(experiment_id, tag, text)


def name_run(client: "MlflowClient", run: "Run", name: str) -> None:
    """Give a run this name, unless the user gave it one."""
    if _GENERATED_NAME.fullmatch(run.info.run_name or ""):
        client.update_run(run.info.run_id, name=name)


def address(run: "Run", artifact: str = "") -> str:
    """Return the address of a run on MLflow's page, relative to the page of its server."""
    path = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    return f"{path}/artifacts/{artifact}" if artifact else path


def describe_resuming(client: "MlflowClient", project_run: str, run: "Run") -> None:
    """Say on the run that `mlflow run -P resume=` made which run it continues; it has nothing else."""
    client.set_tag(project_run, artifacts.TAG_RESUMES, run.info.run_id)
    client.set_tag(
        project_run, artifacts.TAG_NOTE, f"This command continues run [{run.info.run_name}]({address(run)})."
    )
    name_run(client, client.get_run(project_run), f"resume {run.info.run_name}")


def describe_command(client: "MlflowClient", run_id: str, name: str, note: str) -> None:
    """Name and describe the run that `mlflow run` made for a command that trains nothing."""
    run = client.get_run(run_id)
    describe_experiment(client, run.info.experiment_id)
    name_run(client, run, name)
    client.set_tag(run_id, artifacts.TAG_NOTE, note)


def describe_failure(client: "MlflowClient", run: "Run", error: str) -> None:
    """Say on a run why it failed before anything was logged to it."""
    client.set_tag(run.info.run_id, artifacts.TAG_ERROR, error)
    client.set_tag(run.info.run_id, artifacts.TAG_NOTE, failure_note(error))
    name_run(client, run, f"{run.data.tags.get(_ENTRY_POINT, 'command')} failed")


def failure_note(error: str) -> str:
    """Return the description of a run that failed with this error."""
    return f"Failed: {error}"
