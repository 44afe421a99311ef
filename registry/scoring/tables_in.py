"""The file to score, in chunks of rows, flat in memory."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import pyarrow

from registry.scoring.chunks import LARGEST, Chunk, Source
from registry.scoring.json_columns import find_columns, to_array
from registry.scoring.parquet_in import open_parquet
from registry.scoring.rows_in import (
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
_SHOWN = 20
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def open_source(path: Path, text_column: str) -> Source:
    """The file at `path`, read as its suffix says. Raises DataError when it cannot be read or has no text column."""
    _check_file(path)
    source = _source(path, text_column)
    if source.columns:  # a JSONL file of which no line can be read has none: its rejects say more
        _check_columns(path, source.columns, text_column)
    return source


def _source(path: Path, text_column: str) -> Source:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return open_parquet(path, text_column)
    if suffix in _DELIMITERS:
        return _delimited(path, text_column, _DELIMITERS[suffix])
    if suffix == ".txt":
        parse = partial(plain_records, column=text_column)
        return _TextSource(path=path, text_column=text_column, schema=_texts([text_column]), parse=parse)
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
            f"columns={list(columns[:_SHOWN])}.{nearest(text_column, columns)} Name the column with text_column."
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


def _texts(columns: Iterable[str]) -> pyarrow.Schema:
    return pyarrow.schema([(name, pyarrow.string()) for name in columns])


def _delimited(path: Path, text_column: str, delimiter: str) -> Source:
    with _open(path, "") as lines:
        columns = read_header(split(lines, delimiter), path.name)

    def parse(lines: TextIO) -> Iterator[Record | Reject]:
        records = split(lines, delimiter)
        read_header(records, path.name)
        return table_records(records, columns)

    return _TextSource(path=path, text_column=text_column, schema=_texts(columns), parse=parse, newline="")


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
        schema = find_columns(usable_rows(lines)) or _texts(names)
    return _TextSource(path=path, text_column=text_column, schema=schema, parse=json_records, keep_objects=True)
