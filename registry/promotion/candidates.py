"""The runs that may become champion, and what each of them left on the tracking server."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.promotion.gate import Scored
from trainer.core import artifacts
from trainer.core.environment import redact
from trainer.core.errors import RegistryError
from trainer.evaluation import calibration
from trainer.runs.results import Predictions, read_predictions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["RANKING", "Candidate", "Ranked", "best_candidate", "check_same_test", "read_candidate"]

RANKING = artifacts.metric("dev", "macro_f1")
"""Candidates are ranked by this, and never by a score on test, which would choose what it then judges."""

_READ = (
    *(artifacts.DATASET, artifacts.THRESHOLDS, artifacts.CALIBRATION, artifacts.MODEL_CARD),
    artifacts.predictions_file("test"),
)
_NEEDED = (*(artifacts.CONFIG, artifacts.LABELS, artifacts.PER_LABEL, artifacts.REPORT), *_READ)
_NEEDED_OF_DEV = artifacts.predictions_file("dev")
_PAGE = 1000


@dataclass(frozen=True)
class Candidate:
    """A finished run with its model and what the gate needs of its artifacts."""

    run_id: str
    run_name: str
    dev_score: float | None
    """None of a run that was trained on dev as well."""
    model_uri: str
    temperature: float
    policy: str
    thresholds: tuple[float, ...]
    dataset: Mapping[str, Any]
    """dataset.json."""
    predictions: Predictions
    """Of test."""
    folder: Path
    """Where the run's small artifacts lie."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels."""
        return self.predictions.label_names

    @property
    def test_digest(self) -> str:
        """Digest of the test rows."""
        return str(self.dataset["digests"]["test"])

    @cached_property
    def scored(self) -> Scored:
        """Its test rows as the gate sees them."""
        return Scored(
            scores=calibration.calibrate(self.predictions, self.temperature), thresholds=np.asarray(self.thresholds)
        )


@dataclass(frozen=True)
class Ranked:
    """The choice among the runs of an experiment."""

    run_id: str
    remarks: tuple[str, ...]
    """What was left out and why, in sentences."""


def best_candidate(
    client: "MlflowClient", experiment_id: str, *, test_digest: str | None, withdrawn: Iterable[str]
) -> Ranked:
    """The finished run with a model and the highest dev/macro_f1, among those with these test rows.

    A run that was trained on dev as well has no such score: it must be named.
    test_digest: that of the champion; None = any, as long as all runs have the same. withdrawn: runs whose model a
    rollback took back. Raises RegistryError when there is no such run.
    """
    runs = [run for run in _finished(client, experiment_id) if RANKING in run.data.metrics and _has_model(run)]
    experiment = client.get_experiment(experiment_id).name
    if not runs:
        raise RegistryError(
            f"experiment must have a finished run with a model and {RANKING}, but got {experiment=} without one. "
            "Train one there, or name another experiment or a run_id."
        )
    remarks = []
    digests = {_digest(run) for run in runs}
    if test_digest is None and len(digests) > 1:
        best = {digest: max((run for run in runs if _digest(run) == digest), key=_score) for digest in digests}
        listed = "; ".join(f"{run.info.run_id} ({_score(run):.4f})" for run in best.values())
        raise RegistryError(
            f"candidates for a first champion must have one test set, but got {len(digests)} of them in {experiment=}, "
            f"and their scores cannot be compared. Name one: run_id= of the best of each: {listed}."
        )
    fitting = [run for run in runs if test_digest in (None, _digest(run))]
    if len(fitting) < len(runs):
        remarks.append(f"{len(runs) - len(fitting)} runs with other test rows than the champion's are left out")
    taken_back = set(withdrawn)
    free = [run for run in fitting if run.info.run_id not in taken_back]
    if len(free) < len(fitting):
        remarks.append(
            f"{len(fitting) - len(free)} runs whose model was rolled back are left out; name one with run_id"
        )
    if not free:
        raise RegistryError(
            f"experiment must have a candidate, but got {experiment=} where none is left: {'; '.join(remarks)}."
        )
    best_run = max(free, key=lambda run: (_score(run), -run.info.start_time))
    remarks.insert(0, f"the best of {len(free)} runs by {RANKING}, {_score(best_run):.4f}")
    return Ranked(best_run.info.run_id, tuple(remarks))


def read_candidate(client: "MlflowClient", run_id: str, folder: Path) -> Candidate:
    """Fetch what the gate needs of a run into `folder`.

    Raises RegistryError when the run does not exist, has not finished well, or lacks its model or an artifact.
    """
    run = _finished_run(client, run_id)
    models = run.outputs.model_outputs if run.outputs else []
    if not models:
        raise RegistryError(
            f"candidate must have a model, but got {run_id=} without one. Was it synced to this server?"
        )
    held_out = not _trained_on_dev(run)
    if held_out and RANKING not in run.data.metrics:
        raise RegistryError(f"candidate must have {RANKING}, but got {run_id=} without it. Choose a training run.")
    needed = (*_NEEDED, _NEEDED_OF_DEV) if held_out else _NEEDED
    present = _artifacts(client, run_id)
    missing = [name for name in needed if name not in present]
    if missing:
        raise RegistryError(
            f"candidate must have all artifacts of a training run, but got {run_id=} without {', '.join(missing)}. "
            "Deliver them (`python -m trainer.tracking.run sync`), or train again with this version."
        )
    try:
        return _read_artifacts(client, run, models[-1].model_id, folder)
    except (KeyError, TypeError, ValueError) as error:
        raise RegistryError(
            f"artifacts must be as a training run leaves them, but got {run_id=} with a damaged one "
            f"({type(error).__name__}: {error}). Upload it again from the run's folder, or choose another run."
        ) from error


def _read_artifacts(client: "MlflowClient", run: "Run", model_id: str, folder: Path) -> Candidate:
    run_id = run.info.run_id
    for name in _READ:
        target = (folder / name).parent  # MLflow puts a file right below the folder that it is given
        target.mkdir(parents=True, exist_ok=True)
        client.download_artifacts(run_id, name, str(target))
    thresholds, stages = _read(folder, artifacts.THRESHOLDS), _read(folder, artifacts.CALIBRATION)
    predictions = read_predictions(folder / artifacts.predictions_file("test"))
    cuts = thresholds["policies"][thresholds["default_policy"]]
    return Candidate(
        run_id=run_id,
        run_name=run.info.run_name,
        dev_score=run.data.metrics.get(RANKING),
        model_uri=f"models:/{model_id}",
        temperature=stages["temperature"],
        policy=thresholds["default_policy"],
        thresholds=tuple(cuts[name] for name in predictions.label_names),
        dataset=_read(folder, artifacts.DATASET),
        predictions=predictions,
        folder=folder,
    )


def check_same_test(candidate: Candidate, champion: Candidate) -> None:
    """Raise RegistryError unless both have scored the same test rows for the same labels."""
    if candidate.label_names != champion.label_names:
        other = sorted(set(candidate.label_names) ^ set(champion.label_names))
        raise RegistryError(
            f"candidate must have the labels of the champion, in their order, but got run_id={candidate.run_id!r} with "
            f"{len(candidate.label_names)} labels against {len(champion.label_names)}; not in both: {other[:5]}. "
            "Register it under another name: registered_model=."
        )
    same = candidate.test_digest == champion.test_digest
    if not same or candidate.predictions.row_ids != champion.predictions.row_ids:
        raise RegistryError(
            f"candidate must have the test rows of the champion, but got run_id={candidate.run_id!r} with digest "
            f"{candidate.test_digest[:12]} against {champion.test_digest[:12]}. Train it on the champion's data, or "
            "register it under another name: registered_model=."
        )


def _finished_run(client: "MlflowClient", run_id: str) -> "Run":
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise RegistryError(
            f"run must exist on the tracking server, but got {run_id=} ({redact(str(error))}). "
            "Look the id up in `mlflow ui`."
        ) from error
    if run.info.lifecycle_stage != "active":
        raise RegistryError(f"run must not be deleted, but got {run_id=}. `mlflow runs restore` brings it back.")
    if run.info.status != "FINISHED":
        raise RegistryError(
            f"candidate must be a run that has FINISHED, but got {run_id=} with status {run.info.status}. "
            "Resume it, or choose another."
        )
    return run


def _finished(client: "MlflowClient", experiment_id: str) -> "list[Run]":
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], "attributes.status = 'FINISHED'", max_results=_PAGE, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def _has_model(run: "Run") -> bool:
    return bool(run.outputs and run.outputs.model_outputs)


def _score(run: "Run") -> float:
    return float(run.data.metrics[RANKING])


def _trained_on_dev(run: "Run") -> bool:
    return bool(run.data.params.get(f"{artifacts.PARAMETER_PREFIX}retrain_from"))


def _digest(run: "Run") -> str:
    return str(run.data.tags.get(f"{artifacts.TAG_DATA_DIGEST}.test", ""))


def _artifacts(client: "MlflowClient", run_id: str) -> set[str]:
    """Names of what stands in the folders where the needed artifacts are."""
    folders = {name.rpartition("/")[0] for name in _NEEDED}
    return {found.path for folder in folders for found in client.list_artifacts(run_id, folder or None)}


def _read(folder: Path, name: str) -> Any:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
