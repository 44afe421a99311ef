"""The labels that the model of a run predicts on dev or test, computed again from the files of the run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.core import artifacts
from trainer.core.errors import DataError
from trainer.core.input_files import read_json
from trainer.evaluation import cross_validation, thresholds
from trainer.evaluation.arrays import BoolArray, IntArray, LabelledScores
from trainer.evaluation.calibration import calibrate
from trainer.runs.results import load_choices, read_predictions

__all__ = ["PredictedLabels", "needed_files", "read_predicted_labels"]

_CHOICES = (artifacts.LABELS, artifacts.THRESHOLDS, artifacts.CALIBRATION)


@dataclass(frozen=True)
class PredictedLabels:
    """Predicted labels of a split under the default policy, with the probabilities and true labels behind them."""

    scores: LabelledScores
    """Calibrated probabilities, labels and mask."""
    predictions: BoolArray
    """(n, k)."""
    example_ids: tuple[str, ...]
    groups: IntArray | None = None
    """Number of each example's group, (n,); None: every example is a group of its own."""


def needed_files(role: str) -> tuple[str, ...]:
    """Return the artifacts of a run that `read_predicted_labels` reads."""
    return (*_CHOICES, *([artifacts.CONFIG] if role == "dev" else []), artifacts.predictions_file(role))


def read_predicted_labels(folder: Path, role: str) -> PredictedLabels:
    """Return what the model of the run predicts on `role` ("dev" or "test").

    Thresholds were fitted on dev, so its predictions are cross-fitted with the folds of the run, as its score on dev.
    Raises DataError when a file is missing, damaged, or of a version that chose thresholds in another way.
    """
    split = read_predictions(folder / artifacts.predictions_file(role))
    try:
        choices = load_choices(folder)
        scores = calibrate(split, choices.calibration)
        if choices.label_names != split.label_names:
            raise DataError("thresholds and predictions have other labels")
        if role == "dev":
            predictions = cross_validation.cross_fitted_predictions(
                scores, choices.policy, strength=choices.choice.strength, fold_of_example=_folds(folder, split)
            )
        else:
            predictions = thresholds.predict(scores.probabilities, choices.thresholds[choices.policy])
    except (OSError, KeyError, TypeError, ValueError, DataError) as error:
        raise DataError(
            f"Cannot compute the labels that run {folder.name} predicted on {role} ({type(error).__name__}: {error}). "
            "Download its files again, or train again with this version."
        ) from error
    return PredictedLabels(scores, predictions, split.example_ids, split.groups)


def _folds(folder: Path, split: LabelledScores) -> Any:
    settings: Mapping[str, Any] = read_json(folder / artifacts.CONFIG)
    # Training gives `stratified_folds` the logits; it reads the labels alone.
    return cross_validation.stratified_folds(split, folds=settings["threshold_folds"], seed=settings["seed"])
