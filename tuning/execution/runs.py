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
from trainer.tracking.run import sync

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["STATUS", "Runs", "best_runs", "find_run"]

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "interrupted": "KILLED"}
"""What became of a trial → status of its run."""
_log = logging.getLogger(__name__)
_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"
_RUNNING = "RUNNING"


class Runs:
    """Makes and closes the runs of trainings. The training itself writes into them."""

    def __init__(self, store: MlflowBackend, parent: "Run") -> None:
        self._store = store
        self._parent = parent

    def create(self, name: str, tags: Mapping[str, object]) -> str:
        """Id of a new run below the study's. Raises TrackingError when the server does not make it."""
        from mlflow.tracking.context.registry import resolve_tags

        texts = {key: str(value) for key, value in tags.items()}
        with readable_errors(self._store):
            run = self._store.client.create_run(
                self._parent.info.experiment_id,
                tags={**resolve_tags(), **texts, _PARENT: self._parent.info.run_id, _NAME: name},
            )
        return str(run.info.run_id)

    def close(self, folder: Path, status: str, tags: Mapping[str, object]) -> None:
        """See that the run of a training that has ended is whole on the server, with its log, and not RUNNING.

        tags: texts to set; None takes a tag away.
        A server that is away is no reason to stop a search: what it misses stays in the folder, with a warning.
        """
        run_id = folder.name
        try:
            if has_event_log(folder):
                sync(folder)
            with readable_errors(self._store):
                self._end(self._store.run(run_id), status, tags)
                if (folder / artifacts.TRIAL_LOG).is_file():
                    self._store.client.log_artifact(run_id, str(folder / artifacts.TRIAL_LOG))
        except TrackingError as error:
            _log.warning("run %s is not wholly on the server: %s", run_id, error)

    def give_up(self, run_id: str) -> None:
        """End the run of a training that goes on elsewhere or is begun anew, if nobody has yet."""
        try:
            with readable_errors(self._store):
                known = self._store.run(run_id)
                if known.info.status == _RUNNING:
                    self._end(known, "KILLED", {artifacts.TAG_TRIAL_STATE: "interrupted"})
        except TrackingError as error:
            _log.warning("run %s could not be ended: %s", run_id, error)

    def settle(self, output: Path, states: Mapping[str, str]) -> None:
        """End the runs that are RUNNING on the server although no training is at work any more.

        states: run to what became of its trial: the server was away when that ended. A run that no trial knows is one
        made for the winner, or was made just before its driver was killed. output: folder of the run folders.
        """
        below = f"tags.`{_PARENT}` = '{self._parent.info.run_id}' and attributes.status = '{_RUNNING}'"
        try:
            with readable_errors(self._store):
                found = self._store.client.search_runs([self._parent.info.experiment_id], below)
        except TrackingError as error:
            _log.warning("runs that are over may be RUNNING on the server: %s", error)
            return
        for run in found:
            folder = output / run.info.run_id
            unknown = "complete" if has_results(folder, with_test=False) else "interrupted"
            state = states.get(run.info.run_id, unknown)
            self.close(folder, STATUS[state], {artifacts.TAG_TRIAL_STATE: state})

    def _end(self, known: "Run", status: str, tags: Mapping[str, object]) -> None:
        run_id = known.info.run_id
        for key, value in tags.items():
            if value is not None:
                self._store.client.set_tag(run_id, key, str(value))
            elif key in known.data.tags:
                self._store.client.delete_tag(run_id, key)
        if known.info.status == _RUNNING:
            self._store.client.set_terminated(run_id, status)


def find_run(store: MlflowBackend, run_id: str) -> "Run":
    """The run of a study that has begun. Raises TrackingError when the server does not have it."""
    from mlflow.exceptions import MlflowException

    with readable_errors(store):
        try:
            return store.run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise TrackingError(
                f"study's run must be on the tracking server, but got {run_id=}, which {redact(store.uri)} does not "
                "have. Set MLFLOW_TRACKING_URI to the server that the study began with, or begin another study."
            ) from None


def best_runs(
    store: MlflowBackend, experiment: str, metric: str, digests: Mapping[str, str], count: int
) -> list[Mapping[str, str]]:
    """Settings, as text, of the best finished runs of an experiment on the data of these digests, the best one first.

    Raises TrackingError when there is no such experiment.
    """
    with readable_errors(store):
        found = store.client.get_experiment_by_name(experiment)
        if found is None:
            names = sorted(one.name for one in store.client.search_experiments())
            raise TrackingError(
                f"warm_start must name an experiment, but got warm_start={experiment!r}, which does not exist. "
                f"There are: {', '.join(names)}."
            )
        same = [f"tags.`{artifacts.TAG_DATA_DIGEST}.{role}` = '{digest}'" for role, digest in digests.items()]
        runs = store.client.search_runs(
            [found.experiment_id],
            " and ".join(["attributes.status = 'FINISHED'", *same]),
            order_by=[f"metrics.`{metric}` DESC"],
        )
    different: list[Mapping[str, str]] = []
    for run in runs:
        if len(different) == count:
            break
        if metric in run.data.metrics and (settings := _settings(run)) not in different:
            different.append(settings)
    return different


def _settings(run: "Run") -> dict[str, str]:
    """But for the seed and what else belongs to the run alone: the best may be one setting with several seeds."""
    prefix = artifacts.PARAMETER_PREFIX
    named = {name.removeprefix(prefix): text for name, text in run.data.params.items() if name.startswith(prefix)}
    return {name: text for name, text in named.items() if name not in ("seed", *RUNTIME_SETTINGS)}
