"""Tables of a run for MLflow's page: every score, slices, mistakes of the model and of the data with their texts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainer.core import artifacts
from trainer.core.text_files import write_table
from trainer.evaluation import thresholds
from trainer.evaluation.arrays import Array, BoolArray, IntArray, LabelledScores
from trainer.evaluation.calibration import calibrate
from trainer.evaluation.confusions import replacements
from trainer.evaluation.evaluation import Evaluation
from trainer.evaluation.label_errors import label_quality, suspected_label_errors
from trainer.evaluation.resampling import Resampling
from trainer.evaluation.slices import slice_rows, slicings
from trainer.runs.results import TABLE_DIGITS, Predictions

__all__ = [
    "JudgedSplit",
    "write_errors",
    "write_judged",
    "write_label_errors",
    "write_missed_labels",
    "write_scores",
    "write_slices",
]

_ERRORS_OF_A_KIND = 12  # of two kinds and two splits: 48 rows
_MOST_ANSWERS = 5
_MOST_LABEL_ERRORS = 1000
_TEXT_CHARACTERS = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedSplit:
    """A split with the probabilities and decisions of a model: what the tables about its mistakes need."""

    role: str
    """What the tables call the split."""
    scores: LabelledScores
    """Calibrated probabilities, labels and mask, (n, k)."""
    predictions: BoolArray
    """Decisions of the model, (n, k)."""
    example_ids: tuple[str, ...]
    texts: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Kept columns of the data, each with n cells."""
    groups: IntArray | None = None
    """Number of the group of each example, (n,); None: every example is a group of its own."""

    @classmethod
    def of(cls, role: str, split: Predictions, evaluation: Evaluation) -> "JudgedSplit":
        """Return the split with the calibration and the default policy of an evaluation."""
        scores = calibrate(split, evaluation.calibration)
        return cls(
            role=role,
            scores=scores,
            predictions=thresholds.predict(scores.probabilities, evaluation.thresholds[evaluation.policy]),
            example_ids=split.example_ids,
            texts=split.texts,
            columns=split.columns,
            groups=split.groups,
        )


def write_scores(folder: Path, metrics: Mapping[str, float], roles: Sequence[str] = ("dev", "test")) -> Path:
    """Write the scores on these splits side by side, those on the last one with their 95 % intervals."""
    bounds = {f"_{end}": f"{roles[-1]}_{end}" for end in ("low", "high")}
    rows: dict[str, dict[str, Any]] = {}
    for metric, value in metrics.items():
        role, _, name = metric.partition("/")
        if role not in roles or metric == artifacts.BEST_STEP:
            continue
        score, policy = name.removeprefix("final/").partition("/")[::2]
        column = next((column for suffix, column in bounds.items() if score.endswith(suffix)), role)
        score = score if column == role else score.rpartition("_")[0]
        rows.setdefault(f"{score}, policy {policy}" if policy else score, {})[column] = value
    columns = (*roles, *bounds.values())
    table = [{"score": score, **{name: row.get(name) for name in columns}} for score, row in rows.items()]
    return write_table(folder / artifacts.SCORES, table, digits=TABLE_DIGITS)


def write_judged(folder: Path, split: JudgedSplit) -> Path:
    """Write ids, texts, labels, decisions and probabilities as Parquet that `evaluate` reads as `predictions`."""
    import pyarrow
    import pyarrow.parquet

    names = np.array(split.scores.label_names, dtype=object)
    columns: dict[str, Any] = {
        "id": list(split.example_ids),
        "text": list(split.texts),
        "labels": [names[row].tolist() for row in split.scores.positives],
        "predicted_labels": [names[row].tolist() for row in split.predictions],
    }
    columns |= {f"probability_{name}": split.scores.probabilities[:, i] for i, name in enumerate(names)}
    path = folder / artifacts.EVALUATED
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def write_errors(folder: Path, splits: Sequence[JudgedSplit]) -> Path:
    """Write the most confident mistakes of each split, as one row per example and label.

    Half of them are labels that were predicted and are wrong, half are labels that were missed.
    """
    rows = [row for split in splits for row in _errors(split)]
    return write_table(folder / artifacts.ERRORS, rows, digits=TABLE_DIGITS)


def write_missed_labels(folder: Path, splits: Sequence[JudgedSplit]) -> Path:
    """Write for each missed label the wrong labels that are predicted there most often, or that none is predicted."""
    rows = [row for split in splits for row in _missed(split)]
    return write_table(folder / artifacts.MISSED_LABELS, rows, digits=TABLE_DIGITS)


def write_slices(folder: Path, splits: Sequence[JudgedSplit], resampling: Resampling | None = None) -> Path:
    """Write the scores of the slices of each split: by length, by number of labels, by each kept column."""
    rows = [
        {**row, "split": split.role}
        for split in splits
        for slicing in slicings(split.scores, split.texts, split.columns)
        for row in slice_rows(split.scores, split.predictions, slicing, resampling, split.groups)
    ]
    return write_table(folder / artifacts.SLICES, rows, digits=TABLE_DIGITS)


def write_label_errors(folder: Path, splits: Sequence[JudgedSplit]) -> list[Path]:
    """Write the annotations that are probably wrong, the most suspicious first, and their number by label.

    splits: only examples that the model was not trained on; dev of a run, a split given to `evaluate`, or out-of-fold
    predictions. The calibration may have been fitted on them. At most 1,000 annotations of a split are listed, all are
    counted. Labels without a positive are absent.
    """
    suspected = {split.role: suspected_label_errors(split.scores) for split in splits}
    rows = [row for split in splits for row in _label_errors(split, suspected[split.role])]
    counts = [row for split in splits for row in _label_error_counts(split, suspected[split.role])]
    return [
        write_table(folder / artifacts.LABEL_ERRORS, rows, digits=TABLE_DIGITS),
        write_table(folder / artifacts.LABEL_ERROR_COUNTS, counts, digits=TABLE_DIGITS),
    ]


def _errors(split: JudgedSplit) -> Iterator[dict[str, Any]]:
    probabilities, predicted, present = split.scores.probabilities, split.predictions, split.scores.positives
    kinds = {"predicted": (predicted & ~present, -probabilities), "missed": (~predicted & present, probabilities)}
    for kind, (wrong, order) in kinds.items():
        for example, label in _first(wrong & split.scores.observed, order, _ERRORS_OF_A_KIND):
            yield {
                "text": split.texts[example][:_TEXT_CHARACTERS],
                "mistake": kind,
                "label": split.scores.label_names[label],
                "probability": float(probabilities[example, label]),
                "labels": _names(split, present[example]),
                "predicted": _names(split, predicted[example]),
                "split": split.role,
            }


def _missed(split: JudgedSplit) -> Iterator[dict[str, Any]]:
    found = replacements(split.scores, split.predictions)
    answers = [*split.scores.label_names, "no label"]
    for label, name in enumerate(split.scores.label_names):
        counts, fractions = found.instead[label], found.fractions[label]
        for answer in np.argsort(-counts, kind="stable")[:_MOST_ANSWERS].tolist():
            if counts[answer]:
                yield {
                    "missed": name,
                    "predicted": answers[answer],
                    "examples": int(counts[answer]),
                    "fraction": float(fractions[answer]),
                    "misses": int(found.misses[label]),
                    "support": int(split.scores.support[label]),
                    "split": split.role,
                }


def _label_errors(split: JudgedSplit, suspected: BoolArray) -> Iterator[dict[str, Any]]:
    quality, given = label_quality(split.scores), split.scores.positives
    for example, label in _first(suspected, quality, _MOST_LABEL_ERRORS):
        yield {
            "text": split.texts[example][:_TEXT_CHARACTERS],
            "labels": _names(split, given[example]),
            "suspected": "wrong" if given[example, label] else "missing",
            "label": split.scores.label_names[label],
            "probability": float(split.scores.probabilities[example, label]),
            "quality": float(quality[example, label]),
            "id": split.example_ids[example],
            "split": split.role,
        }


def _label_error_counts(split: JudgedSplit, suspected: BoolArray) -> Iterator[dict[str, Any]]:
    scores = split.scores
    for label in np.flatnonzero(scores.support).tolist():
        given, cells = scores.positives[:, label], suspected[:, label]
        yield {
            "label": scores.label_names[label],
            "positives": int(given.sum()),
            "suspected_wrong": int((cells & given).sum()),
            "suspected_missing": int((cells & ~given).sum()),
            "examples": int(scores.observed[:, label].sum()),
            "split": split.role,
        }


def _first(cells: BoolArray, order: Array, most: int) -> list[tuple[int, int]]:
    """Return the example and label of the `most` cells that come first in `order`. cells, order: (n, k)."""
    chosen = np.argwhere(cells)
    ranks = np.argsort(order[cells], kind="stable")[:most]
    return [(int(example), int(label)) for example, label in chosen[ranks]]


def _names(split: JudgedSplit, row: BoolArray) -> str:
    return ", ".join(name for name, value in zip(split.scores.label_names, row, strict=True) if value)
