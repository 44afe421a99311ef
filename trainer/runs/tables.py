"""Tables of a run for MLflow's page: every score, and the most confident mistakes with their texts."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainer.core import artifacts
from trainer.core.text_files import write_table
from trainer.evaluation import thresholds
from trainer.evaluation.arrays import Array, BoolArray
from trainer.evaluation.calibration import calibrate
from trainer.evaluation.evaluation import Evaluation
from trainer.runs.results import TABLE_DIGITS, Predictions

__all__ = ["write_errors", "write_scores"]

_ERRORS_OF_A_KIND = 12  # of two kinds and two splits: 48 rows
_TEXT_CHARACTERS = 500
_BOUNDS = {"_low": "test_low", "_high": "test_high"}


def write_scores(folder: Path, metrics: Mapping[str, float]) -> Path:
    """Write the scores on dev and test side by side, those on test with their 95 % intervals."""
    rows: dict[str, dict[str, Any]] = {}
    for metric, value in metrics.items():
        role, _, name = metric.partition("/")
        if role not in ("dev", "test") or metric == artifacts.BEST_STEP:
            continue
        score, policy = name.removeprefix("final/").partition("/")[::2]
        column = next((column for suffix, column in _BOUNDS.items() if score.endswith(suffix)), role)
        score = score if column == role else score.rpartition("_")[0]
        rows.setdefault(f"{score}, policy {policy}" if policy else score, {})[column] = value
    columns = ("dev", "test", *_BOUNDS.values())
    table = [{"score": score, **{name: row.get(name) for name in columns}} for score, row in rows.items()]
    return write_table(folder / artifacts.SCORES, table, digits=TABLE_DIGITS)


def write_errors(folder: Path, evaluation: Evaluation, predictions: Mapping[str, Predictions]) -> Path:
    """Write the most confident mistakes of the default policy, test first, as one row per example and label.

    Half of them are labels that were predicted and are wrong, half are labels that were missed.
    """
    rows = [
        row for role in ("test", "dev") if role in predictions for row in _errors(role, predictions[role], evaluation)
    ]
    return write_table(folder / artifacts.ERRORS, rows, digits=TABLE_DIGITS)


def _errors(role: str, split: Predictions, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    probabilities = calibrate(split, evaluation.calibration).probabilities
    predicted = thresholds.predict(probabilities, evaluation.thresholds[evaluation.policy])
    present = split.labels >= 0.5
    kinds = {"predicted": (predicted & ~present, -probabilities), "missed": (~predicted & present, probabilities)}
    for kind, (wrong, order) in kinds.items():
        for example, label in _first(wrong & split.observed, order):
            yield {
                "text": split.texts[example][:_TEXT_CHARACTERS],
                "mistake": kind,
                "label": split.label_names[label],
                "probability": float(probabilities[example, label]),
                "labels": _names(split, present[example]),
                "predicted": _names(split, predicted[example]),
                "split": role,
            }


def _first(cells: BoolArray, order: Array) -> list[tuple[int, int]]:
    """Return the example and label of the cells that come first in `order`. cells, order: (n, k)."""
    chosen = np.argwhere(cells)
    ranks = np.argsort(order[cells], kind="stable")[:_ERRORS_OF_A_KIND]
    return [(int(example), int(label)) for example, label in chosen[ranks]]


def _names(split: Predictions, row: BoolArray) -> str:
    return ", ".join(name for name, value in zip(split.label_names, row, strict=True) if value)
