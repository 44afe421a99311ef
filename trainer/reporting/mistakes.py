"""Reads what a report says about mistakes, slices and suspected label errors from the tables of a run folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.core import artifacts
from trainer.core.input_files import read_json
from trainer.reporting.report import Estimate, Mistake, SliceScore, SuspectedCount, SuspectedError

__all__ = ["confident_mistakes", "slice_scores", "suspected_counts", "suspected_errors"]

_MISTAKES = 8  # of each kind
_SUSPECTED = 8  # of each kind, because the least likely annotations are nearly all of one


def confident_mistakes(folder: Path, role: str) -> list[Mistake]:
    """Return the first mistakes of each kind on the split that its table calls `role`."""
    rows = [row for row in _rows(folder / artifacts.ERRORS) if row["split"] == role]
    names = ("text", "mistake", "label", "probability", "labels")
    return [
        Mistake(**{name: row[name] for name in names})
        for kind in ("predicted", "missed")
        for row in [row for row in rows if row["mistake"] == kind][:_MISTAKES]
    ]


def slice_scores(folder: Path) -> list[SliceScore]:
    """Return the rows of the table of slices; none where the run has no such table."""
    return [
        SliceScore(
            slice_by=row["slice_by"],
            name=row["slice"],
            examples=row["examples"],
            few=row["few"],
            labels=row["labels"],
            macro_f1=_estimate(row, "macro_f1"),
            micro_f1=_estimate(row, "micro_f1"),
            subset_accuracy=row.get("subset_accuracy"),
        )
        for row in _rows(folder / artifacts.SLICES)
    ]


def suspected_errors(folder: Path) -> list[SuspectedError]:
    """Return the most suspicious annotations of each kind, a text once; none where the run has no such table."""
    names = ("text", "labels", "suspected", "label", "probability", "split")
    kinds: dict[str, dict[str, dict[str, Any]]] = {"wrong": {}, "missing": {}}
    for row in _rows(folder / artifacts.LABEL_ERRORS):  # the most suspicious first
        kinds[row["suspected"]].setdefault(row["id"], row)
    return [
        SuspectedError(**{name: row[name] for name in names})
        for by_id in kinds.values()
        for row in list(by_id.values())[:_SUSPECTED]
    ]


def suspected_counts(folder: Path) -> list[SuspectedCount]:
    """Return the number of suspected annotations of each label, most first; none where the run has no such table."""
    counts = [
        SuspectedCount(
            label=row["label"],
            positives=row["positives"],
            wrong=row["suspected_wrong"],
            missing=row["suspected_missing"],
        )
        for row in _rows(folder / artifacts.LABEL_ERROR_COUNTS)
    ]
    return sorted(counts, key=lambda row: -(row.wrong + row.missing))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        content = read_json(path)
        yield from (dict(zip(content["columns"], row, strict=True)) for row in content["data"])


def _estimate(row: dict[str, Any], name: str) -> Estimate:
    return Estimate(*(row[column] for column in (name, f"{name}_low", f"{name}_high")))
