"""Turns tables into splits: finds the columns, reads texts, labels and ids, and names every faulty row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.core.errors import DataError
from trainer.data.dataset import ROLES, Split
from trainer.data.sources.cells import Label, read_id, read_indicators, read_labels, read_text
from trainer.data.sources.errors import RowErrors, quote
from trainer.data.sources.tabular import Table

__all__ = ["Tables", "build_splits"]

_ID_COLUMNS = ("id", "row_id", "comment_id")


@dataclass(frozen=True, kw_only=True)
class Tables:
    """A table per role and what the source states about its columns and labels."""

    by_role: Mapping[str, Table]
    text_column: str
    label_column: str
    label_names: tuple[str, ...] | None
    """In the order of their ids; None where the source lists none."""
    needs_label: bool = False
    """Whether the format forbids examples without any label."""


@dataclass(frozen=True, kw_only=True)
class _Columns:
    text: str
    label: str | None
    indicators: tuple[str, ...]  # one 0/1 column per label, where there is no label column
    example_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    place: str
    text: str
    labels: tuple[Label, ...]
    unobserved: tuple[Label, ...]
    example_id: str


def build_splits(tables: Tables, errors: RowErrors) -> tuple[tuple[str, ...], dict[str, Split]]:
    """Return the label names and a split per role.

    Raises DataError for columns that are missing or differ, and after reading everything for all faulty rows together.
    """
    by_role = tables.by_role
    if not all(table.columns for table in by_role.values()):
        errors.raise_if_any()  # an unreadable file has no columns, and its errors explain more than their absence
    columns = {role: _find_columns(by_role[role], tables) for role in ROLES}
    _check_same_indicators(columns)
    records = {role: _read_records(by_role[role], columns[role], role, errors) for role in ROLES}
    if tables.needs_label:
        for record in (record for role in ROLES for record in records[role] if not record.labels):
            errors.add(record.place, "has no label id")
    # Sorted, because the order of a set differs between processes.
    names = tables.label_names or tuple(sorted(columns["train"].indicators or _names_in(records["train"])))
    index = _LabelIndex(names, listed=tables.label_names is not None)
    matrices = {role: _read_matrices(records[role], index, errors) for role in ROLES}
    errors.raise_if_any()
    return names, {role: _to_split(records[role], *matrices[role]) for role in ROLES}


def _find_columns(table: Table, tables: Tables) -> _Columns:
    example_id = next((c for name in _ID_COLUMNS for c in table.columns if c.casefold() == name), None)  # SemEval: ID
    present = ", ".join(table.columns)
    if tables.text_column not in table.columns:
        raise DataError(
            f"{table.file} has no column {tables.text_column}, only {present}. Name the column with text_column."
        )
    if tables.label_column in table.columns:
        return _Columns(text=tables.text_column, label=tables.label_column, indicators=(), example_id=example_id)
    others = tuple(c for c in table.columns if c not in (tables.text_column, example_id))
    indicators = tables.label_names or others
    missing = [name for name in indicators if name not in others]
    if missing or not others:
        raise DataError(
            f"{table.file} has neither a column {tables.label_column} nor one 0/1 column per label, only {present}"
            + (f"; label columns missing: {', '.join(missing)}" if missing else "")
            + ". Name the column of labels with label_column."
        )
    return _Columns(text=tables.text_column, label=None, indicators=indicators, example_id=example_id)


def _check_same_indicators(columns: Mapping[str, _Columns]) -> None:
    train = set(columns["train"].indicators)
    for role in ROLES[1:]:
        other = set(columns[role].indicators)
        if train != other:
            raise DataError(
                "Splits must have the same labels, got "
                f"{', '.join(sorted(train - other)) or 'none'} only in train and "
                f"{', '.join(sorted(other - train)) or 'none'} only in {role}."
            )


def _read_records(table: Table, columns: _Columns, role: str, errors: RowErrors) -> list[_Record]:
    records = []
    seen: dict[str, int] = {}
    for line, cells in table.rows:
        place = f"{table.file}:{line}"
        try:
            record = _read_record(cells, columns, place, default_id=f"{role}-{line}")
        except KeyError as error:  # rows of JSON lines may lack keys
            errors.add(place, f"has no {error.args[0]!r}")
            continue
        except ValueError as error:
            errors.add(place, str(error))
            continue
        if record.example_id in seen:
            errors.add(place, f"id {quote(record.example_id)} is also in line {seen[record.example_id]}")
        seen.setdefault(record.example_id, line)
        records.append(record)
    return records


def _read_record(cells: Mapping[str, Any], columns: _Columns, place: str, *, default_id: str) -> _Record:
    """Return the record of a row. Raises KeyError for a missing cell and ValueError for a faulty one."""
    example_id = default_id if columns.example_id is None else read_id(cells[columns.example_id])
    text = read_text(cells[columns.text])
    if columns.label is None:
        present, unobserved = read_indicators({name: cells[name] for name in columns.indicators})
        return _Record(place=place, text=text, labels=present, unobserved=unobserved, example_id=example_id)
    labels = read_labels(cells[columns.label])
    return _Record(place=place, text=text, labels=labels, unobserved=(), example_id=example_id)


def _names_in(records: Sequence[_Record]) -> tuple[str, ...]:
    names = {label for record in records for label in record.labels}
    ids = sorted(str(name) for name in names if isinstance(name, int) or name.isdecimal())
    if ids:
        raise DataError(
            f"The labels are ids ({', '.join(ids[:5])}), and their names are not listed. "
            "Add a labels.txt with one name a line, in the order of the ids."
        )
    return tuple(str(name) for name in names)


class _LabelIndex:
    """Columns of labels by name and, where the source lists its labels, by id."""

    def __init__(self, names: tuple[str, ...], *, listed: bool) -> None:
        self.num_labels = len(names)
        self._columns: dict[Label, int] = {}
        if listed:
            self._columns = {label: i for i in range(len(names)) for label in (i, str(i))}  # CSV has ids as text
        self._columns |= {name: i for i, name in enumerate(names)}  # after the ids: a name may look like one
        self._listed = listed

    def look_up(self, labels: Sequence[Label], place: str, errors: RowErrors) -> list[int]:
        """Return the columns of the labels that are listed; the others are errors."""
        for label in labels:
            if label not in self._columns:
                errors.add(place, self._complaint(label))
        return [self._columns[label] for label in labels if label in self._columns]

    def _complaint(self, label: Label) -> str:
        if not self._listed:
            return f"unknown label {quote(label)}: it does not appear in train"
        if isinstance(label, int) or label.lstrip("-").isdecimal():
            return f"unknown label id {quote(label)}: ids go from 0 to {self.num_labels - 1}"
        return f"unknown label {quote(label)}: not in the list of labels"


def _read_matrices(
    records: Sequence[_Record], index: _LabelIndex, errors: RowErrors
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return labels and observed mask, both (n, k)."""
    labels = np.zeros((len(records), index.num_labels), dtype=np.float32)
    observed = np.ones_like(labels, dtype=np.bool_)
    for row, record in enumerate(records):
        labels[row, index.look_up(record.labels, record.place, errors)] = 1.0
        observed[row, index.look_up(record.unobserved, record.place, errors)] = False
    return labels, observed


def _to_split(records: Sequence[_Record], labels: NDArray[np.float32], observed: NDArray[np.bool_]) -> Split:
    return Split(
        texts=tuple(record.text for record in records),
        labels=labels,
        observed=observed,
        example_ids=tuple(record.example_id for record in records),
    )
