"""Rows of cells to splits: which column is what, label names or ids to a matrix, every fault named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.core.errors import DataError
from trainer.data.dataset import ROLES, Split
from trainer.data.sources.errors import RowErrors, abbreviate
from trainer.data.sources.tabular import Table

__all__ = ["NOT_STATED", "RawDataset", "build_splits"]

NOT_STATED = "not stated"
"""Licence of a source that names none."""

_ID_COLUMNS = ("id", "row_id", "comment_id")

Token = str | int


@dataclass(frozen=True, kw_only=True)
class RawDataset:
    """A data set as read: a table per role and what its source says about labels."""

    tables: Mapping[str, Table]
    text_column: str
    label_column: str
    label_names: tuple[str, ...] | None
    """In the order of their ids; None where the source does not list them."""
    needs_label: bool = False
    """Whether the format forbids rows without any label."""
    licence: str = NOT_STATED


@dataclass(frozen=True, kw_only=True)
class _Columns:
    text: str
    label: str | None
    indicators: tuple[str, ...]  # one 0/1 column per label, where there is no label column
    row_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    place: str
    text: str
    tokens: tuple[Token, ...]
    row_id: str


def build_splits(raw: RawDataset, errors: RowErrors) -> tuple[tuple[str, ...], dict[str, Split]]:
    """Return the label names and a split per role.

    Raises DataError for columns that are missing or differ, and, once everything is read, for all errors together.
    """
    if not all(table.columns for table in raw.tables.values()):
        errors.raise_if_any()  # nothing of a file could be read: its errors say more than a missing column
    columns = {role: _find_columns(raw.tables[role], raw) for role in ROLES}
    _check_same_indicators(columns)
    records = {role: _read_records(raw.tables[role], columns[role], role, errors) for role in ROLES}
    if raw.needs_label:
        for record in (record for role in ROLES for record in records[role] if not record.tokens):
            errors.add(record.place, "has no label id")
    names = raw.label_names or tuple(sorted(columns["train"].indicators or _names_in(records["train"])))
    index = _LabelIndex(names, listed=raw.label_names is not None)
    positives = {role: [index.look_up(record, errors) for record in records[role]] for role in ROLES}
    errors.raise_if_any()
    return names, {role: _to_split(records[role], positives[role], len(names)) for role in ROLES}


def _find_columns(table: Table, raw: RawDataset) -> _Columns:
    row_id = next((c for name in _ID_COLUMNS for c in table.columns if c.casefold() == name), None)
    if raw.text_column not in table.columns:
        raise DataError(
            f"file must have the column {raw.text_column!r}, but got file={table.file!r} with "
            f"columns={list(table.columns)}. Name the column with text_column."
        )
    if raw.label_column in table.columns:
        return _Columns(text=raw.text_column, label=raw.label_column, indicators=(), row_id=row_id)
    others = tuple(c for c in table.columns if c not in (raw.text_column, row_id))
    indicators = raw.label_names or others
    missing = [name for name in indicators if name not in others]
    if missing or not others:
        raise DataError(
            f"file must have a label column, or one 0/1 column per label, but got file={table.file!r} with "
            f"columns={list(table.columns)} and no {raw.label_column!r}"
            + (f"; label columns missing: {', '.join(missing)}" if missing else "")
            + ". Name the column with label_column."
        )
    return _Columns(text=raw.text_column, label=None, indicators=indicators, row_id=row_id)


def _check_same_indicators(columns: Mapping[str, _Columns]) -> None:
    train = set(columns["train"].indicators)
    for role in ROLES[1:]:
        other = set(columns[role].indicators)
        if train != other:
            raise DataError(
                f"splits must share their labels, but got {sorted(train - other)} only in train and "
                f"{sorted(other - train)} only in {role}."
            )


def _read_records(table: Table, columns: _Columns, role: str, errors: RowErrors) -> list[_Record]:
    records = []
    seen: dict[str, int] = {}
    for line, cells in table.rows:
        place = f"{table.file}:{line}"
        try:
            row_id = f"{role}-{line}" if columns.row_id is None else _row_id(cells[columns.row_id])
            record = _Record(
                place=place, text=_text(cells[columns.text]), tokens=_tokens(cells, columns), row_id=row_id
            )
        except KeyError as error:
            errors.add(place, f"has no {error.args[0]!r}")
            continue
        except ValueError as error:
            errors.add(place, str(error))
            continue
        if row_id in seen:
            errors.add(place, f"id {abbreviate(row_id)} stands in line {seen[row_id]} already")
        seen.setdefault(row_id, line)
        records.append(record)
    return records


def _text(cell: Any) -> str:
    if not isinstance(cell, str):
        raise ValueError(f"text must be a string: {abbreviate(cell)}")  # noqa: TRY004  caught with the other faults of a row
    if not cell.strip():
        raise ValueError(f"empty text: {abbreviate(cell)}")
    try:
        cell.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"text holds half of a surrogate pair at {error.start + 1}: {abbreviate(cell)}") from error
    return cell


def _row_id(cell: Any) -> str:
    if not isinstance(cell, str | int) or not str(cell).strip():
        raise ValueError(f"id must be a string or a whole number: {abbreviate(cell)}")
    return str(cell)


def _tokens(cells: Mapping[str, Any], columns: _Columns) -> tuple[Token, ...]:
    if columns.label is None:
        return tuple(name for name in columns.indicators if _is_set(name, cells[name]))
    cell = cells[columns.label]
    if isinstance(cell, str):
        if not cell.strip():
            return ()
        return tuple(part.strip() for part in cell.split("|" if "|" in cell else ","))
    parts = cell if isinstance(cell, list | tuple) else [cell]
    if any(isinstance(part, bool) or not isinstance(part, str | int) for part in parts):
        raise ValueError(f"labels must be names or ids: {abbreviate(cell)}")
    return tuple(parts)


def _is_set(name: str, cell: Any) -> bool:
    value = cell.strip() if isinstance(cell, str) else cell
    if value in ("0", "1"):
        return bool(value == "1")
    if value in (0, 1):
        return bool(value)
    raise ValueError(f"label column {name!r} must be 0 or 1: {abbreviate(cell)}")


def _names_in(records: Sequence[_Record]) -> tuple[str, ...]:
    names = {token for record in records for token in record.tokens}
    ids = sorted(str(name) for name in names if isinstance(name, int) or name.isdecimal())
    if ids:
        raise DataError(
            f"label ids must come with their names, but got ids={ids[:5]} and no list of labels. "
            "Add a labels.txt with one name a line, in the order of the ids."
        )
    return tuple(str(name) for name in names)


class _LabelIndex:
    """Columns of labels by name and, where the source lists its labels, by id."""

    def __init__(self, names: tuple[str, ...], *, listed: bool) -> None:
        self._columns: dict[Token, int] = {}
        if listed:
            self._columns = {token: i for i in range(len(names)) for token in (i, str(i))}
        self._columns |= {name: i for i, name in enumerate(names)}
        self._listed = listed
        self._last = len(names) - 1

    def look_up(self, record: _Record, errors: RowErrors) -> list[int]:
        for token in record.tokens:
            if token not in self._columns:
                errors.add(record.place, self._complaint(token))
        return [self._columns[token] for token in record.tokens if token in self._columns]

    def _complaint(self, token: Token) -> str:
        if not self._listed:
            return f"unknown label {abbreviate(token)}: it does not appear in train"
        if isinstance(token, int) or token.lstrip("-").isdecimal():
            return f"unknown label id {abbreviate(token)}: ids go from 0 to {self._last}"
        return f"unknown label {abbreviate(token)}: not in the list of labels"


def _to_split(records: Sequence[_Record], positives: Sequence[list[int]], k: int) -> Split:
    labels = np.zeros((len(records), k), dtype=np.float32)
    for row, columns in enumerate(positives):
        labels[row, columns] = 1.0
    return Split(
        texts=tuple(record.text for record in records),
        labels=labels,
        observed=np.ones_like(labels, dtype=np.bool_),
        example_ids=tuple(record.row_id for record in records),
    )
