"""The predictions of the runs of a cross-validation, as one set.

Each example is predicted by the run that held it out, so calibration and thresholds fitted on all of them do not see
what a model has memorised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainer.core import artifacts
from trainer.core.errors import DataError
from trainer.runs.results import Predictions, read_predictions

__all__ = ["FOLD", "average", "pool", "pool_runs"]

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


def average(parts: Sequence[Predictions]) -> Predictions:
    """Return predictions of the same examples with the mean of the logits.

    Raises DataError when the examples or labels differ.
    """
    first, *others = parts
    for other in others:
        if (other.label_names, other.example_ids) != (first.label_names, first.example_ids):
            raise DataError("The runs to average must have the same labels and examples, got different ones.")
    return replace(first, scores=np.mean([part.logits for part in parts], axis=0))
