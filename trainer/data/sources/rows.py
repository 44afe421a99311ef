"""Turns tables into splits: reads texts, labels and ids, and names every faulty row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.core.errors import DataError, shorten
from trainer.data.config import AUTO
from trainer.data.dataset import Split
from trainer.data.sources.cells import LabelCell, read_id, read_indicators, read_kept, read_labels, read_text
from trainer.data.sources.columns import ANSWER, Columns, Tables, find_columns
from trainer.data.sources.errors import RowErrors
from trainer.data.sources.labels import LabelIndex, check_spelling, names_in
from trainer.data.sources.tabular import Table

__all__ = ["build_splits"]

_MAX_VALUES = 2 * 10**9  # of 5 bytes
_ANSWERS = {"accept", "reject", "ignore"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    place: str
    line: int
    text: str
    labels: LabelCell
    example_id: str | None
    kept: tuple[str, ...]
    """The cells of the kept columns."""


def build_splits(tables: Tables, errors: RowErrors) -> tuple[tuple[str, ...], dict[str, Split]]:
    """Return the label names and a split for each table.

    Raises DataError for columns that are missing or differ, and after reading everything for all faulty rows together.
    """
    by_role = tables.by_role
    if not all(table.columns for table in by_role.values()):
        errors.raise_if_any()  # an unreadable file has no columns, and its errors explain more than their absence
    columns = find_columns(tables, errors)
    records = {role: _read_records(by_role[role], columns[role], tables, errors) for role in by_role}
    if tables.needs_label:
        for record in (record for role in by_role for record in records[role]):
            if not record.labels.values:
                errors.add(record.place, "has no label id")
    cells = [(record.place, record.labels) for role in by_role for record in records[role]]
    train = [record.labels for record in records[tables.reference]]
    names = tables.label_names
    if names is None:
        try:
            names = tuple(sorted(columns[tables.reference].indicators)) or names_in(train)
            if tables.config.label_separator == AUTO:
                check_spelling(cells, train)
        except DataError:
            errors.raise_if_any()  # what cannot be read explains labels that look odd
            raise
    _check_size(names, sum(map(len, records.values())))
    index = LabelIndex(names, [cell for _, cell in cells], listed=tables.label_names is not None)
    matrices = {role: _read_matrices(records[role], index, errors) for role in by_role}
    errors.raise_if_any()
    ids = {role: _example_ids(records[role], role, columns[role], by_role[role].file, errors) for role in by_role}
    kept = tables.config.kept_columns
    return names, {role: _to_split(records[role], *matrices[role], ids[role], kept) for role in by_role}


def _check_size(names: Sequence[str], rows: int) -> None:
    if rows * len(names) > _MAX_VALUES:
        raise DataError(
            f"Labels times rows must be at most {_MAX_VALUES:,}, got {len(names):,} labels and {rows:,} rows. First "
            f"labels: {shorten(', '.join(names[:5]))}. Is label_column the right column?"
        )


def _read_records(table: Table, columns: Columns, tables: Tables, errors: RowErrors) -> list[_Record]:
    """Return the records of a table without those that an annotator rejected or that have no annotated label."""
    records, unscored = [], 0
    rows = _accepted(table, errors)
    for line, cells in rows:
        place = f"{table.file}:{line}"
        try:
            record = _read_record(cells, columns, tables, place, line)
        except KeyError as error:  # rows of JSON lines may lack keys
            errors.add(place, f"has no {error.args[0]!r}")
            continue
        except ValueError as error:
            errors.add(place, str(error))
            continue
        values = record.labels.values.values()
        if values and all(value is None for value in values):
            unscored += 1
        else:
            records.append(record)
    if unscored:
        errors.warn("Rows without an annotated label are left out", f"{unscored} of {table.file}")
    return records


def _accepted(table: Table, errors: RowErrors) -> Sequence[tuple[int, Mapping[str, Any]]]:
    """Return the rows without those whose answer is reject or ignore, where a column `answer` has only such cells."""
    answers = [cells.get(ANSWER) for _, cells in table.rows]
    if not all(isinstance(answer, str) and answer in _ANSWERS for answer in answers):
        return table.rows
    accepted = [row for row, answer in zip(table.rows, answers, strict=True) if answer == "accept"]
    if count := len(answers) - len(accepted):
        errors.warn(f"Rows whose `{ANSWER}` is reject or ignore are left out", f"{count} of {table.file}")
    return accepted


def _read_record(cells: Mapping[str, Any], columns: Columns, tables: Tables, place: str, line: int) -> _Record:
    """Return the record of a row. Raises KeyError for a missing cell and ValueError for a faulty one."""
    if columns.label is None:
        labels = read_indicators({name: cells[name] for name in columns.indicators})
    else:
        separator, listed = tables.config.label_separator, tables.label_names or ()
        labels = read_labels(cells[columns.label], separator=separator, listed=listed)
    example_id = None if columns.example_id is None else read_id(cells.get(columns.example_id))
    return _Record(
        place=place,
        line=line,
        text=read_text(cells[columns.text]),
        labels=labels,
        example_id=example_id,
        kept=tuple(read_kept(cells.get(name)) for name in columns.kept),
    )


def _example_ids(
    records: Sequence[_Record], role: str, columns: Columns, file: str, errors: RowErrors
) -> tuple[str, ...]:
    """Return the ids of the id column, or role and line where it has none for a row, or one twice."""
    ids = [record.example_id for record in records if record.example_id is not None]
    if len(set(ids)) == len(records):
        return tuple(ids)
    if columns.example_id is not None:
        fault = "repeats values" if len(ids) == len(records) else "has cells that are empty or no ids"
        errors.warn(f"The column `{columns.example_id}` {fault}, so lines identify the rows", file)
    return tuple(f"{role}-{record.line}" for record in records)


def _read_matrices(
    records: Sequence[_Record], index: LabelIndex, errors: RowErrors
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return labels and observed mask, both (n, k)."""
    labels = np.zeros((len(records), index.num_labels), dtype=np.float32)
    observed = np.ones_like(labels, dtype=np.bool_)
    for row, record in enumerate(records):
        for column, value in index.look_up(record.labels, record.place, errors).items():
            labels[row, column] = value or 0.0
            observed[row, column] = value is not None
    return labels, observed


def _to_split(
    records: Sequence[_Record],
    labels: NDArray[np.float32],
    observed: NDArray[np.bool_],
    ids: tuple[str, ...],
    kept: Sequence[str],
) -> Split:
    return Split(
        texts=tuple(record.text for record in records),
        labels=labels,
        observed=observed,
        example_ids=ids,
        columns={name: tuple(record.kept[i] for record in records) for i, name in enumerate(kept)},
    )
