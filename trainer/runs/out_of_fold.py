"""The predictions of the runs of a cross-validation, as one set.

Each example is predicted by the run that held it out, so calibration and thresholds fitted on all of them do not see
what a model has memorised.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainer.core import artifacts
from trainer.core.errors import DataError
from trainer.evaluation.arrays import BoolArray, LabelledScores
from trainer.evaluation.calibration import calibrate
from trainer.evaluation.calibration_fit import choose_calibration
from trainer.evaluation.threshold_search import ThresholdCandidates
from trainer.evaluation.thresholds import POLICIES, FittedThresholds, predict
from trainer.runs.results import Predictions, read_predictions

__all__ = ["FOLD", "cross_fitted", "pool", "pool_runs"]

FOLD = "fold"
"""Column of the pooled predictions with the number of the fold that held the example out."""


def pool_runs(folders: Mapping[int, Path]) -> Predictions:
    """Return the out-of-fold predictions of the run folders, by fold: what `pool` returns of their dev predictions."""
    return pool({fold: read_predictions(path / artifacts.predictions_file("dev")) for fold, path in folders.items()})


def pool(parts: Mapping[int, Predictions]) -> Predictions:
    """Return the dev predictions of all folds, each example once, in the order of their ids.

    The order does not depend on the folds: runs with other seeds pool the same examples in the same order.
    Raises DataError when two folds held the same example out, or have other labels or columns.
    """
    first, *others = parts.values()
    for other in others:
        if (other.label_names, other.columns.keys()) != (first.label_names, first.columns.keys()):
            raise DataError("The runs of all folds must have the same labels and columns, got different ones.")
    splits = list(parts.values())
    ids = [example for split in splits for example in split.example_ids]
    if repeated := len(ids) - len(set(ids)):
        raise DataError(f"Each example must be held out by one fold, got {repeated} that are held out by several.")
    columns = {name: tuple(cell for split in splits for cell in split.columns[name]) for name in first.columns}
    pooled = replace(
        first,
        scores=np.concatenate([split.logits for split in splits]),
        labels=np.concatenate([split.labels for split in splits]),
        observed=np.concatenate([split.observed for split in splits]),
        example_ids=tuple(ids),
        texts=tuple(text for split in splits for text in split.texts),
        columns={**columns, FOLD: tuple(str(fold) for fold, split in parts.items() for _ in split.example_ids)},
    )
    return pooled.take(np.argsort(np.array(ids, dtype=object), kind="stable"))


def cross_fitted(pooled: Predictions, *, method: str, strength: float) -> tuple[LabelledScores, dict[str, BoolArray]]:
    """Return calibrated probabilities of pooled predictions, and what each threshold policy predicts, (n, k).

    Calibration and thresholds of a fold are fitted on the other folds: those of its run have seen its labels. method:
    one of METHODS. strength: as in thresholds.shrunk_thresholds.
    """
    numbers = np.array([int(number) for number in pooled.columns[FOLD]])
    probabilities = np.zeros(pooled.labels.shape)
    predictions = {policy: np.zeros(pooled.labels.shape, dtype=np.bool_) for policy in POLICIES}
    for number in np.unique(numbers):
        own = numbers == number
        rest = pooled.take(~own)
        calibration = choose_calibration(rest, method, fold_of_example=numbers[~own]).calibration
        fitted = FittedThresholds.of(ThresholdCandidates.of(calibrate(rest, calibration)))
        probabilities[own] = calibration.probabilities(pooled.logits[own])
        for policy, predicted in predictions.items():
            predicted[own] = predict(probabilities[own], fitted.choose(policy, strength))
    return pooled.with_probabilities(probabilities), predictions
