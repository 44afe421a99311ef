"""Scored rows to CSV, JSONL or Parquet: a part per chunk, and the parts joined to one file without holding them.

Columns of the input come first, as they are; what a format cannot hold as such is written as JSON text. In CSV the
predicted labels are joined by `|`, or written as a JSON list where a label of the model has that letter.
"""

import base64
import csv
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any, Protocol

import pyarrow
import pyarrow.parquet

from registry.scoring.chunks import Chunk
from registry.scoring.scorer import Answer
from trainer.core.errors import DataError

__all__ = ["Form", "added_columns", "check_columns", "form_of"]

_LABELS = "predicted_labels"
_PROBABILITY = "probability_"
_SEPARATOR = "|"


class Form(Protocol):
    """How a file of one kind is written."""

    def write_part(self, path: Path, chunk: Chunk, answer: Answer) -> None:
        """Write the rows of a chunk with what the model said about them."""

    def join(self, path: Path, parts: Sequence[Path], columns: Sequence[str]) -> None:
        """Write the file that consists of these parts, at least one, with these columns."""


def form_of(path: Path) -> Form:
    """The form that the suffix of an output names."""
    forms: dict[str, Form] = {".csv": _Delimited(","), ".tsv": _Delimited("\t"), ".parquet": _Parquet()}
    return forms.get(path.suffix.lower(), _JsonLines())


def added_columns(label_names: Sequence[str]) -> tuple[str, ...]:
    """Columns of the output that the input does not have."""
    return (_LABELS, *(_PROBABILITY + name for name in label_names))


def check_columns(columns: Sequence[str], label_names: Sequence[str]) -> None:
    """Raise DataError when the input has a column of the same name as one that is added."""
    taken = [name for name in added_columns(label_names) if name in columns]
    if taken:
        raise DataError(
            f"columns of the input must not be named like those that are added, but got {taken=}. "
            "Rename or remove them; they may come from an earlier job."
        )


class _Delimited:
    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter

    def write_part(self, path: Path, chunk: Chunk, answer: Answer) -> None:
        as_json = any(_SEPARATOR in name or not name for name in answer.label_names)
        labels = [_dump(row) if as_json else _SEPARATOR.join(row) for row in answer.labels]
        columns = [[_as_text(value) for value in column.to_pylist()] for column in chunk.table.columns]
        probabilities = [column.tolist() for column in answer.probabilities.T]
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=self._delimiter).writerows(zip(*columns, labels, *probabilities, strict=True))

    def join(self, path: Path, parts: Sequence[Path], columns: Sequence[str]) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=self._delimiter).writerow(columns)
        _append(path, parts)


class _JsonLines:
    def write_part(self, path: Path, chunk: Chunk, answer: Answer) -> None:
        names = added_columns(answer.label_names)
        objects = chunk.objects if chunk.objects is not None else _objects(chunk.table)
        with path.open("w", encoding="utf-8", newline="") as file:
            for row, labels, probabilities in zip(objects, answer.labels, answer.probabilities.tolist(), strict=True):
                added = _dump(dict(zip(names, [labels, *probabilities], strict=True)))
                # The row keeps its own spelling: numbers and keys stay as they are, to the letter.
                file.write(f"{row[:-1].rstrip()}, {added[1:]}\n")

    def join(self, path: Path, parts: Sequence[Path], columns: Sequence[str]) -> None:
        path.touch()
        _append(path, parts)


class _Parquet:
    def write_part(self, path: Path, chunk: Chunk, answer: Answer) -> None:
        added: list[pyarrow.Array] = [pyarrow.array(answer.labels, pyarrow.list_(pyarrow.string()))]
        added += [pyarrow.array(column, pyarrow.float64()) for column in answer.probabilities.T]
        table = chunk.table
        for name, array in zip(added_columns(answer.label_names), added, strict=True):
            table = table.append_column(name, array)
        pyarrow.parquet.write_table(table, path)

    def join(self, path: Path, parts: Sequence[Path], columns: Sequence[str]) -> None:
        schema = pyarrow.parquet.read_schema(parts[0])
        with pyarrow.parquet.ParquetWriter(path, schema) as writer:
            for part in parts:
                with pyarrow.parquet.ParquetFile(part) as file:
                    writer.write_table(file.read())


def _append(path: Path, parts: Sequence[Path]) -> None:
    with path.open("ab") as file:
        for part in parts:
            with part.open("rb") as content:
                shutil.copyfileobj(content, file)


def _objects(table: pyarrow.Table) -> Iterator[str]:
    for row in table.to_pylist():
        try:
            yield _dump(row, allow_nan=False)
        except ValueError:
            yield _dump(_finite(row))


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    plain = value if isinstance(value, bool | int | float | list | tuple | dict) else _as_json(value)
    return plain if isinstance(plain, str) else _dump(plain)


def _dump(value: Any, *, allow_nan: bool = True) -> str:
    return json.dumps(value, ensure_ascii=False, default=_as_json, allow_nan=allow_nan)


def _as_json(value: Any) -> str:
    """Values of Parquet that JSON has no form for: times as ISO 8601, bytes in base64, decimals and others as text."""
    if isinstance(value, date | time):
        return value.isoformat()
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)


def _finite(value: Any) -> Any:
    """The value with null for numbers that JSON has not."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
