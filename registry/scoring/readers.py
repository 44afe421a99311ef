"""Readers that yield a file of any size in chunks of rows."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import pyarrow
import pyarrow.parquet

from registry.scoring import rows
from registry.scoring.column_types import UNTYPED, json_schema, to_array
from registry.scoring.rows import Reject, Row
from trainer.core.data_files import check_columns, check_file, damage_reported, find_not_utf8, without_rows
from trainer.core.errors import DataError, shorten
from trainer.core.settings import quote
from trainer.core.text_rows import NOT_UTF8, Parsed, is_unicode, parse_json_lines, parse_table, parse_text, why_unfit

__all__ = ["Chunk", "Reader", "open_reader"]

_MAX_CHUNK = 32 * 2**20
"""Characters or bytes of input after which a chunk ends, however few its rows are."""

_KIB, _MIB = 2**10, 2**20


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Rows that follow each other in the file."""

    table: pyarrow.Table
    """The rows that can be scored, with the columns of the file."""
    texts: Sequence[str]
    objects: Sequence[str] | None = None
    """The rows of `table` as the JSON objects of the file, if it is JSON Lines."""
    rejects: Sequence[Reject]
    position: int
    """How much of the file has been read at the end of the chunk, in the unit of the reader."""

    @property
    def rows(self) -> int:
        """Return the number of rows, rejects included."""
        return len(self.texts) + len(self.rejects)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A file to score. Reading it again yields the same chunks."""

    columns: Sequence[str]
    total: int
    """Size of the file."""
    unit: str
    """What `total` and the positions of chunks count."""
    chunks: Callable[[int], Iterator[Chunk]]
    """Yields chunks of at most this number of rows."""


def open_reader(path: Path, text_column: str) -> Reader:
    """Return the reader for the suffix of `path`. Raises DataError for a file without rows or without the text column.

    JSON Lines are read through once for their columns.
    """
    check_file(path)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        reader = _open_parquet(path, text_column)
    elif suffix in (".csv", ".tsv"):
        reader = _open_csv(path, text_column)
    elif suffix == ".txt":
        reader = _text_reader(path, text_column, _strings([text_column]), parse_text)
    else:
        reader = _open_json_lines(path, text_column)
    if reader.columns:  # JSON Lines without a readable row have none: the rejects file gives the reasons
        check_columns(path, reader.columns, text_column)
    return reader


def _text_reader(
    path: Path,
    text_column: str,
    schema: pyarrow.Schema,
    parse: Callable[[TextIO], Iterator[Parsed]],
    newline: str = "\n",
    *,
    keep_objects: bool = False,
) -> Reader:
    def chunks(max_rows: int) -> Iterator[Chunk]:
        with _open(path, newline) as lines:
            for batch in _batched(rows.check(parse(lines), schema.names, text_column), max_rows):
                good = [row for row in batch if isinstance(row, Row)]
                arrays = [to_array([row.cells.get(field.name) for row in good], field) for field in schema]
                yield Chunk(
                    table=pyarrow.Table.from_arrays(arrays, schema=schema),
                    texts=[row.cells[text_column] for row in good],
                    objects=[row.source for row in good] if keep_objects else None,
                    rejects=[row for row in batch if isinstance(row, Reject)],
                    position=math.ceil(lines.buffer.tell() / _KIB),  # `lines.tell` fails in a loop over lines
                )

    return Reader(columns=schema.names, total=math.ceil(path.stat().st_size / _KIB), unit="KiB", chunks=chunks)


def _batched(checked: Iterator[Row | Reject], max_rows: int) -> Iterator[list[Row | Reject]]:
    batch: list[Row | Reject] = []
    size = 0
    for row in checked:
        batch.append(row)
        size += len(row.source)
        if len(batch) == max_rows or size >= _MAX_CHUNK:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _open(path: Path, newline: str) -> TextIO:
    # `surrogateescape` keeps bytes that are not UTF-8, so that their row alone is rejected.
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def _strings(columns: Sequence[str], untyped: Sequence[str] = ()) -> pyarrow.Schema:
    fields = [(name, UNTYPED if name in untyped else None) for name in columns]
    return pyarrow.schema([pyarrow.field(name, pyarrow.string(), metadata=metadata) for name, metadata in fields])


def _open_csv(path: Path, text_column: str) -> Reader:
    # Not pyarrow.csv: it merges the rows between two stray quotation marks, and rejects rows without a position.
    suffix = path.suffix.lower()
    with _open(path, "") as lines:  # "": a cell keeps line ends of any kind
        _, columns, source = next(parse_table(lines, suffix), (1, "", ""))
    if not isinstance(columns, list) or not is_unicode(source):
        raise DataError(f"The first row must be the column names in UTF-8, got {quote(source)} in {shorten(path)}.")

    def parse_body(lines: TextIO) -> Iterator[Parsed]:
        records = parse_table(lines, suffix)
        next(records)
        return records

    schema = _strings(columns, untyped=[name for name in columns if name != text_column])
    return _text_reader(path, text_column, schema, parse_body, newline="")


def _open_json_lines(path: Path, text_column: str) -> Reader:
    with _open(path, "\n") as lines:
        objects = (cells for _, cells, _ in parse_json_lines(lines) if isinstance(cells, dict))
        # A row that is rejected gives its names, and no types.
        schema = json_schema(one if rows.is_fit(one, text_column) else dict.fromkeys(one) for one in objects)
    return _text_reader(path, text_column, schema, parse_json_lines, keep_objects=True)


def _open_parquet(path: Path, text_column: str) -> Reader:
    with damage_reported(path), pyarrow.parquet.ParquetFile(path) as file:
        columns, total = file.schema_arrow.names, file.metadata.num_rows
        size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
    largest = max(_MAX_CHUNK * total // max(size, 1), 1)

    def chunks(max_rows: int) -> Iterator[Chunk]:
        position = 0
        # Without a buffer, whole columns of a row group are read together.
        with damage_reported(path), pyarrow.parquet.ParquetFile(path, buffer_size=_MIB) as file:
            for batch in file.iter_batches(min(max_rows, largest)):
                yield _parquet_chunk(pyarrow.Table.from_batches([batch]), text_column, position)
                position += batch.num_rows

    return Reader(columns=columns, total=total, unit="row", chunks=chunks)


def _parquet_chunk(table: pyarrow.Table, text_column: str, before: int) -> Chunk:
    not_utf8 = find_not_utf8(table)
    reasons = dict.fromkeys(not_utf8, f"row {NOT_UTF8}")
    readable = [row for row in range(len(table)) if row not in reasons]
    texts = without_rows(table, not_utf8)[text_column].to_pylist()
    reasons |= {row: why for row, text in zip(readable, texts, strict=True) if (why := why_unfit(text))}
    rejected = sorted(reasons)
    kept = without_rows(table, rejected)
    return Chunk(
        table=kept,
        texts=kept[text_column].to_pylist(),
        rejects=[Reject(before + row + 1, None, reasons[row], _spell(table, row)) for row in rejected],
        position=before + len(table),
    )


def _spell(table: pyarrow.Table, row: int) -> str:
    try:
        return ", ".join(f"{name}: {value!r}" for name, value in table.slice(row, 1).to_pylist()[0].items())
    except UnicodeDecodeError:  # the row is rejected for this string
        return ""
