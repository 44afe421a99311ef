"""Finished runs that differ from a candidate in their training seed only, and what they predict on test."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.promotion.candidates import Candidate, data_digest
from trainer.config import TrainConfig
from trainer.core import artifacts, run_folder
from trainer.core.errors import DataError, SettingsError, shorten
from trainer.core.settings import flatten
from trainer.evaluation.arrays import BoolArray
from trainer.runs.download import fetch_artifacts
from trainer.runs.predicted_labels import needed_files, read_predicted_labels
from trainer.runs.retraining import MAY_DIFFER
from trainer.tracking.run_lookup import search_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["SeedRuns", "find_seed_runs"]

_MAX_CAUSE = 150
_SEED = f"{artifacts.PARAMETER_PREFIX}seed"
_RETRAINED = f"{artifacts.PARAMETER_PREFIX}retrain_from"


@dataclass(frozen=True)
class SeedRuns:
    """The runs of one configuration."""

    predictions: Mapping[int, BoolArray]
    """Seed → predictions (n, k) on test; of two runs with one seed those of the newer, or of the candidate itself."""
    remarks: tuple[str, ...]
    """Runs that could not be used and why, in sentences."""


def find_seed_runs(client: "MlflowClient", candidate: Candidate, scratch: Path) -> SeedRuns:
    """Return what the candidate's configuration predicts on test, by seed: finished runs of the same experiment.

    They have the same settings except the seed, the same train, dev and test examples, and the same labels. scratch:
    folder for downloads.
    """
    own = client.get_run(candidate.run_id)
    settings = _settings(client, candidate.run_id, scratch)
    predictions = {int(settings["seed"]): candidate.test_scores.predictions}
    remarks = []
    for run in _same_data(client, own):
        seed = int(run.data.params[_SEED])
        if seed in predictions or not _may_be_same(run, own):
            continue
        try:
            found = _predictions(client, run.info.run_id, settings, candidate, scratch)
        except (DataError, SettingsError) as error:
            remarks.append(f"seed {seed} not used: {shorten(error, _MAX_CAUSE)}")
            continue
        if found is not None:
            predictions[seed] = found
    return SeedRuns(predictions, tuple(remarks))


def _settings(client: "MlflowClient", run_id: str, scratch: Path) -> dict[str, Any]:
    return run_folder.read_config(fetch_artifacts(client, run_id, [artifacts.CONFIG], scratch))


def _predictions(
    client: "MlflowClient", run_id: str, settings: Mapping[str, Any], candidate: Candidate, scratch: Path
) -> BoolArray | None:
    """Return what a run predicts on test; None for a run with other settings."""
    kept = _settings(client, run_id, scratch)
    if run_folder.diff_settings(kept, settings, flatten(TrainConfig()), ignore=MAY_DIFFER):
        return None
    folder = fetch_artifacts(client, run_id, [artifacts.CONFIG, *needed_files("test")], scratch)
    found = read_predicted_labels(folder, "test")
    if (found.scores.label_names, found.example_ids) != (candidate.label_names, candidate.predictions.example_ids):
        raise DataError(f"Run {run_id} has other labels or test examples than run {candidate.run_id}.")
    return found.predictions


def _same_data(client: "MlflowClient", own: "Run") -> "list[Run]":
    """Return the finished runs of the experiment with the same examples, the newest first."""
    # A prefix: older versions wrote the whole digest.
    digests = {role: data_digest(own, role) for role in ("train", "dev", "test")}
    same = [f"tags.`{artifacts.TAG_DATA_DIGEST}.{role}` LIKE '{digest}%'" for role, digest in digests.items() if digest]
    runs = search_runs(client, own.info.experiment_id, " and ".join(["attributes.status = 'FINISHED'", *same]))
    return [run for run in runs if _SEED in run.data.params and run.info.run_id != own.info.run_id]


def _may_be_same(run: "Run", own: "Run") -> bool:
    """Return whether the logged settings of two runs agree: their files decide, but downloads cost time."""
    left_out = {f"{artifacts.PARAMETER_PREFIX}{name}" for name in MAY_DIFFER}
    both = (run.data.params.keys() & own.data.params.keys()) - left_out
    pruned = run.data.tags.get(artifacts.TAG_TRIAL_STATE) == "pruned"
    equal = all(run.data.params[name] == own.data.params[name] for name in both)
    # A model that was trained on dev too is another one.
    retrained = bool(run.data.params.get(_RETRAINED)) == bool(own.data.params.get(_RETRAINED))
    return equal and retrained and not pruned and artifacts.TAG_COMMAND not in run.data.tags
