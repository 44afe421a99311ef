"""The MLflow runs of trainings, nested under the run of their study."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.core import artifacts
from trainer.core.errors import TrackingError
from trainer.core.redaction import redact
from trainer.core.run_folder import RUNTIME_SETTINGS, has_results
from trainer.tracking.backend import MlflowBackend
from trainer.tracking.connection import readable_errors
from trainer.tracking.event_log import has_event_log
from trainer.tracking.nested import PARENT, create_nested_run
from trainer.tracking.run import RejectedEventsError, sync

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["Runs", "best_runs", "find_run"]

_STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
"""State of a trial to the status of its run. A pruned trial ended as planned, which the tag says."""
_log = logging.getLogger(__name__)
_RUNNING = "RUNNING"


class Runs:
    """Creates and closes the runs of trainings. A training itself logs to its run."""

    def __init__(self, store: MlflowBackend, parent: "Run") -> None:
        self._store = store
        self._parent = parent

    def create(self, name: str, tags: Mapping[str, object]) -> str:
        """Return the id of a new run, nested under that of the study. Raises TrackingError when the server fails."""
        return create_nested_run(self._store, self._parent, name, tags)

    def rename(self, run_id: str, name: str) -> None:
        """Give a run another name. Only warns when the server does not answer."""
        try:
            with readable_errors(self._store):
                self._store.client.update_run(run_id, name=name)
        except TrackingError as error:
            _log.warning("run %s keeps its name: %s", run_id, error)

    def close(self, folder: Path, state: str, cause: str | None = None) -> None:
        """Upload what the ended training has not, and give its run the status and tags of this state.

        cause: the error of a failed training. Only warns when the server does not answer: its log stays in the folder.
        """
        run_id = folder.name
        try:
            if has_event_log(folder):
                _deliver(folder)
            with readable_errors(self._store):
                self._end(run_id, state, cause)
                if (folder / artifacts.TRIAL_LOG).is_file():
                    self._store.client.log_artifact(run_id, str(folder / artifacts.TRIAL_LOG))
        except TrackingError as error:
            _log.warning("run %s is not complete on the server: %s", run_id, error)

    def abandon(self, run_id: str) -> None:
        """End a run that is continued by another one, unless it has ended."""
        try:
            with readable_errors(self._store):
                if self._store.run(run_id).info.status == _RUNNING:
                    self._end(run_id, "interrupted", None)
        except TrackingError as error:
            _log.warning("run %s could not be ended: %s", run_id, error)

    def close_abandoned(self, output: Path, states: Mapping[str, str]) -> None:
        """End the runs below that of the study which are RUNNING although no training writes to them.

        states: run id to the state of its ended trial. A run of no trial was created for the winner, or just before
        its command was killed. output: folder of the run folders.
        """
        running = f"tags.`{PARENT}` = '{self._parent.info.run_id}' and attributes.status = '{_RUNNING}'"
        try:
            with readable_errors(self._store):
                found = self._store.client.search_runs([self._parent.info.experiment_id], running)
        except TrackingError as error:
            _log.warning("ended runs may be RUNNING on the server: %s", error)
            return
        for run in found:
            folder = output / run.info.run_id
            default = "complete" if has_results(folder, with_test=False) else "interrupted"
            self.close(folder, states.get(run.info.run_id, default))

    def _end(self, run_id: str, state: str, cause: str | None) -> None:
        run = self._store.run(run_id)
        self._store.client.set_tag(run_id, artifacts.TAG_TRIAL_STATE, state)
        if cause:
            self._store.client.set_tag(run_id, artifacts.TAG_ERROR, cause)
        elif artifacts.TAG_ERROR in run.data.tags:  # a training that was asked to stop has logged that as an error
            self._store.client.delete_tag(run_id, artifacts.TAG_ERROR)
        if run.info.status != _STATUS[state]:  # a second end would move the time of the first
            self._store.client.set_terminated(run_id, _STATUS[state])


def _deliver(folder: Path) -> None:
    try:
        sync(folder)
    except RejectedEventsError as error:  # the run gets its status all the same
        _log.warning("%s", error)


def find_run(store: MlflowBackend, run_id: str) -> "Run":
    """Return the run of a study. Raises TrackingError when the server does not have it."""
    from mlflow.exceptions import MlflowException

    with readable_errors(store):
        try:
            run = store.run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise TrackingError(
                f"Cannot find the run of the study, {run_id}, on {redact(store.uri)}. "
                "Set MLFLOW_TRACKING_URI to the server on which the study began, or start another study."
            ) from None
    if run.info.lifecycle_stage != "active":
        raise TrackingError(
            f"The run of the study, {run_id}, is deleted. `mlflow runs restore --run-id {run_id}` brings it back; or "
            "start another study."
        )
    return run


def best_runs(
    store: MlflowBackend, experiment: str, metric: str, digests: Mapping[str, str], count: int
) -> list[Mapping[str, str]]:
    """Return the settings, as text, of the best finished runs on the data of these digests, best first.

    Raises TrackingError when there is no such experiment.
    """
    with readable_errors(store):
        found = store.client.get_experiment_by_name(experiment)
        if found is None:
            names = sorted(one.name for one in store.client.search_experiments())
            raise TrackingError(
                f"`warm_start` must be the name of an experiment, got {experiment}. Experiments: {', '.join(names)}."
            )
        same = [  # a prefix: older versions wrote the whole digest
            f"tags.`{artifacts.TAG_DATA_DIGEST}.{role}` LIKE '{digest[: artifacts.SHORT_DIGEST]}%'"
            for role, digest in digests.items()
        ]
        runs = store.client.search_runs(
            [found.experiment_id],
            " and ".join(["attributes.status = 'FINISHED'", *same]),
            order_by=[f"metrics.`{name}` DESC" for name in (artifacts.final_metric(metric), metric)],
        )
    scored = [(score, run) for run in runs if (score := artifacts.final_score(run.data.metrics, metric)) is not None]
    different: list[Mapping[str, str]] = []
    # The server cannot order by a score that is under one name or, from older versions, the other.
    for _, run in sorted(scored, key=lambda pair: -pair[0]):
        if len(different) < count and (settings := _settings(run)) not in different:
            different.append(settings)
    return different


def _settings(run: "Run") -> dict[str, str]:
    """Return the settings of a run without its seed: the best runs may be one configuration with several seeds."""
    prefix = artifacts.PARAMETER_PREFIX
    named = {name.removeprefix(prefix): text for name, text in run.data.params.items() if name.startswith(prefix)}
    return {name: text for name, text in named.items() if name not in ("seed", *RUNTIME_SETTINGS)}
