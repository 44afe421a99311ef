"""Writers of scored rows as CSV, JSON Lines or Parquet: one part per chunk, then all parts joined to one file.

The columns of the input come first. What a format cannot hold is written as JSON text. In CSV the predicted labels are
joined by `|`, or form a JSON list if a label of the model contains that character.
"""

import base64
import json
import math
from collections.abc import Sequence
from datetime import date, time
from pathlib import Path
from typing import Any, Protocol

import pyarrow
import pyarrow.csv
import pyarrow.parquet
from pyarrow import types

from registry.scoring.chunk_store import concatenate
from registry.scoring.column_types import UNTYPED, number_type, to_numbers
from registry.scoring.readers import Chunk
from registry.scoring.scorer import Prediction
from trainer.core.errors import DataError, shorten

__all__ = ["Writer", "added_columns", "check_columns", "writer_for"]

_LABELS = "predicted_labels"
_PROBABILITY = "probability_"
_SEPARATOR = "|"


class Writer(Protocol):
    """Writes files of one format."""

    def write_part(self, path: Path, chunk: Chunk, prediction: Prediction) -> None:
        """Write the rows of a chunk with their prediction."""

    def join(self, path: Path, parts: Sequence[Path], columns: Sequence[str]) -> None:
        """Write the file that consists of these parts, at least one, with these columns."""


def writer_for(path: Path) -> Writer:
    """Return the writer for the suffix of an output."""
    writers: dict[str, Writer] = {".csv": _CsvWriter(","), ".tsv": _CsvWriter("\t"), ".parquet": _ParquetWriter()}
    return writers.get(path.suffix.lower(), _JsonLinesWriter())


def added_columns(label_names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of the output that the input does not have."""
    return (_LABELS, *(_PROBABILITY + name for name in label_names))


def check_columns(columns: Sequence[str], label_names: Sequence[str]) -> None:
    """Raise DataError when the input has a column with the name of an added one."""
    taken = [name for name in added_columns(label_names) if name in columns]
    if taken:
        raise DataError(
            f"Columns of the input must differ from those that scoring adds, got {shorten(', '.join(taken))}. "
            "Rename or remove them; they may come from an earlier job."
        )


class _CsvWriter:
    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter

    def write_part(self, path: Path, chunk: Chunk, prediction: Prediction) -> None:
        as_json = any(_SEPARATOR in name or not name for name in prediction.label_names)  # an empty name would vanish
        labels = [_dump(row) if as_json else _SEPARATOR.join(row) for row in prediction.labels]
        names = added_columns(prediction.label_names)
        columns = [_as_text(column) for column in chunk.table.columns]
        table = pyarrow.table([*columns, labels, *prediction.probabilities.T], [*chunk.table.column_names, *names])
        self._write(path, table, header=False)  # `join` writes it once

    def join(self, path: Path, parts: Sequence[Path], columns: Sequence[str]) -> None:
        self._write(path, pyarrow.table({name: pyarrow.array([], pyarrow.string()) for name in columns}), header=True)
        concatenate(parts, path)

    def _write(self, path: Path, table: pyarrow.Table, *, header: bool) -> None:
        options = pyarrow.csv.WriteOptions(include_header=header, delimiter=self._delimiter)
        pyarrow.csv.write_csv(table, path, options)


class _JsonLinesWriter:
    def write_part(self, path: Path, chunk: Chunk, prediction: Prediction) -> None:
        names = added_columns(prediction.label_names)
        objects = (
            chunk.objects if chunk.objects is not None else [_dump(_plain(row)) for row in chunk.table.to_pylist()]
        )
        scored = zip(objects, prediction.labels, prediction.probabilities, strict=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            for row, labels, probabilities in scored:
                added = _dump(dict(zip(names, [labels, *probabilities.tolist()], strict=True)))
                # Appended to the text of the row, so that its numbers keep their digits.
                file.write(f"{row[:-1].rstrip()}, {added[1:]}\n")

    def join(self, path: Path, parts: Sequence[Path], columns: Sequence[str]) -> None:
        concatenate(parts, path)


class _ParquetWriter:
    """Columns that come from CSV become numbers in `join`, when all their cells can be seen."""

    def write_part(self, path: Path, chunk: Chunk, prediction: Prediction) -> None:
        # With its type: rows without any label would give another one, and parts could not be joined.
        added: list[pyarrow.Array] = [pyarrow.array(prediction.labels, pyarrow.list_(pyarrow.string()))]
        added += [pyarrow.array(column, pyarrow.float64()) for column in prediction.probabilities.T]
        table = chunk.table
        for name, array in zip(added_columns(prediction.label_names), added, strict=True):
            table = table.append_column(name, array)
        pyarrow.parquet.write_table(table, path)

    def join(self, path: Path, parts: Sequence[Path], columns: Sequence[str]) -> None:
        schema = pyarrow.parquet.read_schema(parts[0])
        for index, field in enumerate(schema):
            if field.metadata == UNTYPED:
                # Of all parts: one cell that is text decides.
                kind = number_type(_read(part, [field.name])[field.name] for part in parts)
                schema = schema.set(index, pyarrow.field(field.name, kind))
        with pyarrow.parquet.ParquetWriter(path, schema) as writer:
            for part in parts:
                writer.write_table(_typed(_read(part), schema))


def _read(part: Path, columns: list[str] | None = None) -> pyarrow.Table:
    with pyarrow.parquet.ParquetFile(part) as file:
        return file.read(columns)


def _typed(table: pyarrow.Table, schema: pyarrow.Schema) -> pyarrow.Table:
    columns = zip(table.columns, schema, strict=True)
    typed = [column if column.type == field.type else to_numbers(column, field.type) for column, field in columns]
    return pyarrow.Table.from_arrays(typed, schema=schema)


def _as_text(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray | list[str | None]:
    """Return a column that CSV can hold: strings, numbers and booleans unchanged, other values as text."""
    kind = column.type
    if any(is_kind(kind) for is_kind in (types.is_string, types.is_integer, types.is_floating, types.is_boolean)):
        return column
    values = [_plain(value) for value in column.to_pylist()]
    return [value if value is None or isinstance(value, str) else _dump(value) for value in values]


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Return a value of Parquet as JSON has it: times as ISO 8601, bytes in base64, no NaN, other kinds as text."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, date | time):
        return value.isoformat()
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)
