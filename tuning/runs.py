"""The MLflow runs of trainings, nested under the run of their study."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.core import artifacts
from trainer.core.connection import describe, readable_errors
from trainer.core.errors import TrackingError
from trainer.core.spool import has_spool
from trainer.core.store import Store
from trainer.core.tracking import sync

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["Runs", "best_runs"]

_log = logging.getLogger(__name__)
_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"
_RUNNING = "RUNNING"


class Runs:
    """Makes and closes the runs of trainings. The training itself writes into them."""

    def __init__(self, store: Store, parent: str) -> None:
        self._store = store
        self._parent = parent
        self._experiment: str = store.run(parent).info.experiment_id

    def create(self, name: str, tags: Mapping[str, object]) -> str:
        """Id of a new run below the study's. Raises TrackingError when the server does not make it."""
        from mlflow.tracking.context.registry import resolve_tags

        texts = {key: str(value) for key, value in tags.items()}
        with readable_errors(self._store):
            run = self._store.client.create_run(
                self._experiment, tags={**resolve_tags(), **texts, _PARENT: self._parent, _NAME: name}
            )
        return str(run.info.run_id)

    def close(self, folder: Path, status: str, tags: Mapping[str, object]) -> None:
        """See that the run of a training that has ended is whole on the server, with its log, and not RUNNING.

        tags: texts to set; None takes a tag away.
        A server that is away is no reason to stop a search: what it misses stays in the folder, with a warning.
        """
        run_id = folder.name
        try:
            if has_spool(folder):
                sync(folder)
            known = self._store.run(run_id).data.tags
            for key, value in tags.items():
                if value is not None:
                    self._store.client.set_tag(run_id, key, str(value))
                elif key in known:
                    self._store.client.delete_tag(run_id, key)
            if (folder / artifacts.TRIAL_LOG).is_file():
                self._store.client.log_artifact(run_id, str(folder / artifacts.TRIAL_LOG))
            if self._store.run(run_id).info.status == _RUNNING:
                self._store.client.set_terminated(run_id, status)
        except TrackingError as error:
            _log.warning("run %s is not wholly on the server: %s", run_id, error)
        except Exception as error:
            _log.warning("run %s could not be closed: %s", run_id, describe(error))


def best_runs(
    store: Store, experiment: str, metric: str, digests: Mapping[str, str], count: int
) -> list[Mapping[str, str]]:
    """Settings, as text, of the best finished runs of an experiment on the data of these digests, the best one first.

    Raises TrackingError when there is no such experiment.
    """
    with readable_errors(store):
        found = store.client.get_experiment_by_name(experiment)
        if found is None:
            raise TrackingError(f"warm_start must name an experiment, but got {experiment=}, which does not exist.")
        same = [f"tags.`{artifacts.TAG_DATA_DIGEST}.{role}` = '{digest}'" for role, digest in digests.items()]
        runs = store.client.search_runs(
            [found.experiment_id],
            " and ".join(["attributes.status = 'FINISHED'", *same]),
            max_results=count,
            order_by=[f"metrics.`{metric}` DESC"],
        )
    return [_settings(run) for run in runs if metric in run.data.metrics]


def _settings(run: "Run") -> dict[str, str]:
    prefix = artifacts.PARAMETER_PREFIX
    return {name.removeprefix(prefix): text for name, text in run.data.params.items() if name.startswith(prefix)}
