"""The file to score, in chunks of rows, flat in memory."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import pyarrow
import pyarrow.parquet

from registry.chunks import LARGEST, Chunk, Source
from registry.json_columns import find_columns, to_array
from registry.rows_in import (
    Record,
    Reject,
    json_records,
    plain_records,
    read_header,
    split,
    table_records,
    why_unfit,
)
from trainer.core.errors import DataError
from trainer.core.settings import nearest

__all__ = ["open_source"]

_KIB = 1024
_MIB = 1024 * _KIB
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def open_source(path: Path, text_column: str) -> Source:
    """The file at `path`, read as its suffix says. Raises DataError when it cannot be read or has no text column."""
    suffix = path.suffix.lower()
    _check_file(path)
    if suffix == ".parquet":
        return _parquet(path, text_column)
    if suffix in _DELIMITERS:
        return _delimited(path, text_column, _DELIMITERS[suffix])
    if suffix == ".txt":
        schema = pyarrow.schema([(text_column, pyarrow.string())])
        parse = partial(plain_records, column=text_column)
        return _TextSource(path=path, text_column=text_column, schema=schema, parse=parse)
    return _json_lines(path, text_column)


def _check_file(path: Path) -> None:
    if path.exists() and not path.is_file():  # a pipe cannot be read twice
        raise DataError(
            f"input must be a regular file, but got input={str(path)!r}. Give a file, not a folder or pipe."
        )
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as error:
        raise DataError(f"input must be a readable file, but got input={str(path)!r} ({error.strerror}).") from error
    if not start:
        raise DataError(f"input must have rows, but got input={str(path)!r}, which is empty.")
    if start in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(
            f"input must be UTF-8, but got input={str(path)!r} in UTF-16. Convert it: "
            f"iconv -f UTF-16 -t UTF-8 {path.name} > utf8{path.suffix}"
        )


def _check_columns(path: Path, columns: Sequence[str], text_column: str) -> None:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise DataError(f"column names must be distinct, but got {twice=} in input={str(path)!r}. Rename them.")
    if text_column not in columns:
        raise DataError(
            f"input must have the text column, but got {text_column=} and input={str(path)!r} with "
            f"columns={list(columns)}.{nearest(text_column, columns)} Name the column with text_column."
        )


def _unfit_as_reject(one: Record | Reject, text_column: str) -> Record | Reject:
    if isinstance(one, Reject):
        return one
    reason = why_unfit(one.cells[text_column]) if text_column in one.cells else "text is missing"
    return Reject(one.row, one.line, reason, one.source) if reason else one


@dataclass(frozen=True, kw_only=True)
class _TextSource:
    """CSV, JSONL or plain text. Positions are in KiB."""

    path: Path
    text_column: str
    schema: pyarrow.Schema
    parse: Callable[[TextIO], Iterable[Record | Reject]]
    newline: str = "\n"
    """As in `open`: a cell of a CSV file may hold line ends of any kind, and keeps them."""
    keep_objects: bool = False
    unit: str = "KiB"

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.schema.names)

    @property
    def total(self) -> int:
        return math.ceil(self.path.stat().st_size / _KIB)

    def chunks(self, rows: int) -> Iterator[Chunk]:
        with _open(self.path, self.newline) as lines:
            waiting: list[Record | Reject] = []
            size = 0
            for one in self.parse(lines):
                waiting.append(_unfit_as_reject(one, self.text_column))
                size += len(one.source)
                if len(waiting) == rows or size >= LARGEST:
                    yield self._chunk(waiting, lines)
                    waiting, size = [], 0
            if waiting:
                yield self._chunk(waiting, lines)

    def _chunk(self, waiting: Sequence[Record | Reject], lines: TextIO) -> Chunk:
        records = [one for one in waiting if isinstance(one, Record)]
        arrays = [to_array([record.cells.get(field.name) for record in records], field) for field in self.schema]
        return Chunk(
            table=pyarrow.Table.from_arrays(arrays, schema=self.schema),
            texts=[record.cells[self.text_column] for record in records],
            objects=[record.source for record in records] if self.keep_objects else None,
            rejects=[one for one in waiting if isinstance(one, Reject)],
            position=math.ceil(lines.buffer.tell() / _KIB),
        )


def _open(path: Path, newline: str) -> TextIO:
    # Bytes that are not UTF-8 are carried along as such, so that their row alone is rejected.
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def _delimited(path: Path, text_column: str, delimiter: str) -> Source:
    with _open(path, "") as lines:
        columns = read_header(split(lines, delimiter), path.name)
    _check_columns(path, columns, text_column)

    def parse(lines: TextIO) -> Iterator[Record | Reject]:
        records = split(lines, delimiter)
        read_header(records, path.name)
        return table_records(records, columns)

    schema = pyarrow.schema([(name, pyarrow.string()) for name in columns])
    return _TextSource(path=path, text_column=text_column, schema=schema, parse=parse, newline="")


def _json_lines(path: Path, text_column: str) -> Source:
    """Reads the whole file once, for its columns."""
    names: dict[str, None] = {}

    def usable_rows(lines: TextIO) -> Iterator[dict[str, Any]]:
        for one in json_records(lines):
            if isinstance(one, Record):
                names.update(dict.fromkeys(one.cells))
                if isinstance(_unfit_as_reject(one, text_column), Record):
                    yield one.cells

    with _open(path, "\n") as lines:
        schema = find_columns(usable_rows(lines))
    if names:
        _check_columns(path, list(names), text_column)
    return _TextSource(path=path, text_column=text_column, schema=schema, parse=json_records, keep_objects=True)


def _parquet(path: Path, text_column: str) -> Source:
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns, total = tuple(file.schema_arrow.names), file.metadata.num_rows
            size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"input must be readable as Parquet, but got input={str(path)!r} ({error}).") from error
    _check_columns(path, columns, text_column)
    fitting = LARGEST * total // max(size, 1)
    return _ParquetSource(path=path, text_column=text_column, columns=columns, total=total, fitting=max(fitting, 1))


@dataclass(frozen=True, kw_only=True)
class _ParquetSource:
    """Positions are in rows."""

    path: Path
    text_column: str
    columns: tuple[str, ...]
    total: int
    fitting: int
    """How many rows of the mean size make the largest chunk."""
    unit: str = "row"

    def chunks(self, rows: int) -> Iterator[Chunk]:
        position = 0
        try:
            # Without a buffer, whole columns of a row group are read at once.
            with pyarrow.parquet.ParquetFile(self.path, buffer_size=_MIB) as file:
                for batch in file.iter_batches(min(rows, self.fitting)):
                    yield self._chunk(pyarrow.Table.from_batches([batch]), position)
                    position += batch.num_rows
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"input must be readable as Parquet, but got {str(self.path)!r} ({error}).") from error

    def _chunk(self, table: pyarrow.Table, before: int) -> Chunk:
        reasons = _reasons(table, self.text_column)
        kept = _kept(table, reasons)
        unfit = [row for row, reason in enumerate(reasons) if reason]
        return Chunk(
            table=kept,
            texts=kept[self.text_column].to_pylist(),
            rejects=[Reject(before + row + 1, None, reasons[row], _shown(table, row)) for row in unfit],
            position=before + len(table),
        )


def _reasons(table: pyarrow.Table, text_column: str) -> list[str]:
    """Why each row cannot be scored; empty where it can. Parquet does not rule out strings that are not UTF-8."""
    try:
        table.validate(full=True)
    except pyarrow.ArrowInvalid:
        if len(table) == 1:
            return ["row is not UTF-8"]
        return [_reasons(table.slice(row, 1), text_column)[0] for row in range(len(table))]
    return [why_unfit(text) for text in table[text_column].to_pylist()]


def _kept(table: pyarrow.Table, reasons: Sequence[str]) -> pyarrow.Table:
    """The rows without a reason. `Table.filter` would do, but not for every type."""
    slices, first = [table.slice(0, 0)], 0
    for row in [row for row, reason in enumerate([*reasons, "end"]) if reason]:
        slices.append(table.slice(first, row - first))
        first = row + 1
    return pyarrow.concat_tables(slices)


def _shown(table: pyarrow.Table, row: int) -> str:
    try:
        return ", ".join(
            f"{name}: {column[row].as_py()!r}" for name, column in zip(table.column_names, table.columns, strict=True)
        )
    except UnicodeDecodeError:
        return ""
