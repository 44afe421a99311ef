"""What MLflow's page shows of experiments and runs beside their events: kind, names, descriptions, views, links."""

import json
import re
import time
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
    "Text classifiers with many rare labels: [runs by their scores]({scores}), trainings, searches with a nested run "
    "for each trial, promotions, batch predictions. The description of a run has its scores and links to its report, "
    "tables and model card."
)
# Views of the table of runs. MLflow 3.17 lists them under "Views"; by itself, its table shows no metric.
_VIEW = "mlflow.sharedViewState."
_SCORES = "scores"
_METRICS = ("dev/final/macro_f1", "test/macro_f1", "test/ece")
_PARAMETERS = ("loss", "model", "dataset", "seed")
_COLUMN_PIXELS = 140
_GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")  # such as efficient-owl-170, by MLflow for a run without a name
_ENTRY_POINT = "mlflow.project.entryPoint"


def new_experiment_tags() -> dict[str, str]:
    """Return the tags of an experiment that is created for runs of this project."""
    return dict(_KIND)


def describe_experiment(client: "MlflowClient", experiment_id: str) -> None:
    """Set kind, view and description of an experiment that lacks them."""
    experiment = client.get_experiment(experiment_id)
    tags = new_experiment_tags() | {f"{_VIEW}{_SCORES}": _scores_view()}
    if experiment.name == artifacts.DEFAULT_EXPERIMENT:
        scores = f"#/experiments/{experiment_id}/runs?viewStateShareKey={_SCORES}"
        tags[artifacts.TAG_NOTE] = _NOTE.format(scores=scores)
    for tag, text in tags.items():
        if tag not in experiment.tags:
            client.set_experiment_tag(experiment_id, tag, text)


def _scores_view() -> str:
    """Return a view of the runs, the best on dev first, as MLflow's page saves views."""
    metrics = [f"metrics.`{name}`" for name in _METRICS]
    parameters = [f"params.`{artifacts.PARAMETER_PREFIX}{name}`" for name in _PARAMETERS]
    columns = [*metrics, *parameters, "attributes.`Models`"]
    state = {
        "searchFilter": f"{metrics[0]} >= 0",
        "orderByKey": metrics[0],
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": dict.fromkeys(columns, _COLUMN_PIXELS),
    }
    milliseconds = int(time.time() * 1000)
    view = {"name": "Scores", "createdAt": milliseconds, "updatedAt": milliseconds, "state": json.dumps(state)}
    return json.dumps(view)


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
