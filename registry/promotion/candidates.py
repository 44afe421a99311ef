"""A run that may become champion, read from the tracking server."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.promotion.gate import ModelScores
from registry.promotion.model_check import Judged
from trainer.core import artifacts
from trainer.core.errors import RegistryError, shorten
from trainer.core.input_files import read_json
from trainer.core.redaction import redact
from trainer.core.settings import quote
from trainer.evaluation.calibration import Calibration, calibrate
from trainer.runs.results import Predictions, read_predictions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = [
    "RANKING",
    "Candidate",
    "check_same_test",
    "data_digest",
    "dev_score",
    "read_candidate",
]

_SERIES = artifacts.metric("dev", "macro_f1")
RANKING = artifacts.final_metric(_SERIES)
"""Candidates are ranked by this metric, and never by a score on test, which would choose what it then judges."""

_READ = (
    *(artifacts.DATASET, artifacts.THRESHOLDS, artifacts.CALIBRATION, artifacts.MODEL_CARD),
    artifacts.predictions_file("test"),
)
_NEEDED = (*(artifacts.CONFIG, artifacts.LABELS, artifacts.PER_LABEL, artifacts.REPORT), *_READ)
_NEEDED_OF_DEV = artifacts.predictions_file("dev")


@dataclass(frozen=True)
class Candidate:
    """A finished run with its model and the artifacts that the gate reads."""

    run_id: str
    run_name: str
    dev_score: float | None
    """None of a run that was trained on dev as well."""
    dev_digest: str
    """Short digest of the dev examples; empty where the run has no such tag."""
    model_uri: str
    calibration: Calibration
    policy: str
    policies: Mapping[str, tuple[float, ...]]
    """Thresholds by threshold policy."""
    dataset: Mapping[str, Any]
    """dataset.json."""
    predictions: Predictions
    """Of test."""
    folder: Path
    """Folder of the run's small artifacts."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels."""
        return self.predictions.label_names

    @property
    def test_digest(self) -> str:
        """Digest of the test examples."""
        return str(self.dataset["digests"]["test"])

    @cached_property
    def test_scores(self) -> ModelScores:
        """Its test examples as the gate reads them."""
        return ModelScores(
            scores=calibrate(self.predictions, self.calibration),
            thresholds=np.asarray(self.policies[self.policy]),
        )

    @property
    def judged(self) -> Judged:
        """Its test examples as the saved model must score them."""
        return Judged(
            label_names=self.label_names,
            texts=self.predictions.texts,
            probabilities=self.test_scores.scores.probabilities,
            calibration=self.calibration,
            policy=self.policy,
            policies=self.policies,
        )


def read_candidate(client: "MlflowClient", run_id: str, folder: Path) -> Candidate:
    """Download the artifacts that the gate reads into `folder`.

    Raises RegistryError when the run does not exist, has not finished, or lacks its model or an artifact.
    """
    run = _finished_run(client, run_id)
    models = run.outputs.model_outputs if run.outputs else []
    if not models:
        raise RegistryError(f"Run {run_id} has no model. Was it uploaded to this server? `sync` uploads it.")
    held_out = not _trained_on_dev(run)
    if held_out and dev_score(run) is None:
        raise RegistryError(f"Run {run_id} has no metric {RANKING}. Choose a training run.")
    needed = (*_NEEDED, _NEEDED_OF_DEV) if held_out else _NEEDED
    present = _artifacts(client, run_id)
    missing = [name for name in needed if name not in present]
    if not present:
        raise RegistryError(
            f"No artifact of run {run_id} is at {redact(run.info.artifact_uri)}. If that folder was moved, move it "
            "back; if the run was not uploaded, `mlflow run . -e sync` uploads it."
        )
    if missing:
        raise RegistryError(
            f"Run {run_id} has no {', '.join(missing)}, which every training run leaves. Upload them "
            "(`mlflow run . -e sync`), or train again with this version."
        )
    try:
        # The newest: a resumed run may log its model again.
        return _read_artifacts(client, run, models[-1].model_id, folder)
    except (KeyError, TypeError, ValueError) as error:  # of a file with other content; errors of the server pass
        raise RegistryError(
            f"An artifact of run {run_id} is damaged ({type(error).__name__}: {error}). Upload it again from the run's "
            "folder, or choose another run."
        ) from error


def _read_artifacts(client: "MlflowClient", run: "Run", model_id: str, folder: Path) -> Candidate:
    run_id = run.info.run_id
    for name in _READ:
        target = (folder / name).parent  # MLflow puts a file directly into the folder that it is given
        target.mkdir(parents=True, exist_ok=True)
        client.download_artifacts(run_id, name, str(target))
    thresholds = _read(folder, artifacts.THRESHOLDS)
    predictions = read_predictions(folder / artifacts.predictions_file("test"))
    policies = {
        policy: tuple(values[name] for name in predictions.label_names)
        for policy, values in thresholds["policies"].items()
    }
    return Candidate(
        run_id=run_id,
        run_name=run.info.run_name,
        dev_score=dev_score(run),
        dev_digest=data_digest(run, "dev"),
        model_uri=f"models:/{model_id}",
        calibration=Calibration.of(_read(folder, artifacts.CALIBRATION)),
        policy=thresholds["default_policy"],
        policies=policies,
        dataset=_read(folder, artifacts.DATASET),
        predictions=predictions,
        folder=folder,
    )


def dev_score(run: "Run") -> float | None:
    """Return the score that ranks a run; None for a run without it, such as one that was trained on dev as well."""
    return artifacts.final_score(run.data.metrics, _SERIES)


def data_digest(run: "Run", role: str) -> str:
    """Return the short digest of a run's dev or test examples; empty where the run has no such tag."""
    return str(run.data.tags.get(f"{artifacts.TAG_DATA_DIGEST}.{role}", ""))[: artifacts.SHORT_DIGEST]


def check_same_test(candidate: Candidate, champion: Candidate) -> None:
    """Raise RegistryError unless both have scored the same test examples for the same labels."""
    if candidate.label_names != champion.label_names:
        other = sorted(set(candidate.label_names) ^ set(champion.label_names))
        raise RegistryError(
            f"Run {candidate.run_id} has other labels than the champion, or another order of them "
            f"({len(candidate.label_names)} against {len(champion.label_names)}; not in both: "
            f"{shorten(', '.join(other[:5]) or 'none')}). Register it under another name: registered_model=."
        )
    same = candidate.test_digest == champion.test_digest
    # The order too: the paired bootstrap compares the predictions row by row.
    if not same or candidate.predictions.example_ids != champion.predictions.example_ids:
        raise RegistryError(
            f"Run {candidate.run_id} has other test examples than the champion (digest {candidate.test_digest[:12]} "
            f"against {champion.test_digest[:12]}). Train it on the champion's data, or register it under another "
            "name: registered_model=."
        )


def _finished_run(client: "MlflowClient", run_id: str) -> "Run":
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        # The second is MLflow's answer to a text that cannot be a run id.
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise RegistryError(
            f"`run_id` must be a run on the tracking server, got {quote(run_id)} ({redact(str(error))}). Look "
            "it up in `mlflow ui`."
        ) from error
    if run.info.lifecycle_stage != "active":
        raise RegistryError(f"Run {run_id} is deleted. `mlflow runs restore` brings it back.")
    if run.info.status != "FINISHED":
        raise RegistryError(
            f"A candidate must have status FINISHED, got {run.info.status} for run {run_id}. Resume it, or choose "
            "another."
        )
    return run


def _trained_on_dev(run: "Run") -> bool:
    return bool(run.data.params.get(f"{artifacts.PARAMETER_PREFIX}retrain_from"))


def _artifacts(client: "MlflowClient", run_id: str) -> set[str]:
    """Return the paths in the folders of the needed artifacts."""
    folders = {name.rpartition("/")[0] for name in _NEEDED}
    # The server lists a folder without its subfolders.
    return {file.path for folder in folders for file in client.list_artifacts(run_id, folder or None)}


def _read(folder: Path, name: str) -> Any:
    try:
        return read_json(folder / name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
