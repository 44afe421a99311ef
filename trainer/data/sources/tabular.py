"""Reads files into rows of named cells with their lines; `rows.py` interprets the cells."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.core.errors import DataError
from trainer.core.text_rows import Parsed, parse_csv, parse_json_lines
from trainer.data.sources.errors import RowErrors, quote

__all__ = ["SUFFIXES", "Table", "read_delimited", "read_table"]

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")

_LINE_END = "\r\n"
_Rows = list[tuple[int, Mapping[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of one file, uninterpreted."""

    file: str
    """Name for error messages."""
    columns: tuple[str, ...]
    rows: Sequence[tuple[int, Mapping[str, Any]]]
    """(line, cells by column), lines from 1."""


def read_table(path: Path, errors: RowErrors) -> Table:
    """Return the table of a file that names its columns. path: with a suffix of SUFFIXES.

    Faulty rows are added to `errors`. Raises DataError when the file as a whole is unreadable.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if path.suffix == ".jsonl":
        return _read_jsonl(path, errors)
    return read_delimited(path, errors, delimiter="\t" if path.suffix == ".tsv" else ",")


def read_delimited(
    path: Path, errors: RowErrors, *, delimiter: str, quoted: bool = True, header: Sequence[str] | None = None
) -> Table:
    """Return the table of a delimited file. header: column names of a file without header line."""
    earlier = errors.count
    # newline="" leaves line ends to the csv module, which keeps those inside quotes.
    records = parse_csv(io.StringIO(_decoded(path, errors), newline=""), delimiter, quoted=quoted)
    columns = tuple(name.strip() for name in (header or _header(records, path.name)))
    if len(set(columns)) != len(columns):
        raise DataError(f"Column names must be distinct, got {', '.join(columns)} in {path.name}.")
    rows: _Rows = []
    for line, cells, source in records:
        if isinstance(cells, list) and len(cells) == len(columns):
            rows.append((line, dict(zip(columns, cells, strict=True))))
        else:
            fault = cells if isinstance(cells, str) else f"needs {len(columns)} columns, but has {len(cells)}"
            errors.add(f"{path.name}:{line}", f"{fault}: {quote(source.rstrip(_LINE_END))}")
    return _table(path, columns, rows, errors, earlier)


def _header(records: Iterator[Parsed], file: str) -> list[str]:
    line, cells, source = next(records, (1, list[str](), ""))
    if not isinstance(cells, list):
        raise DataError(f"{file}:{line} must be the column names, got {quote(source.rstrip(_LINE_END))}.")
    return cells


def _read_jsonl(path: Path, errors: RowErrors) -> Table:
    earlier = errors.count
    rows: _Rows = []
    # Not splitlines: it also splits at U+2028 and others, which JSON strings may contain.
    for line, cells, source in parse_json_lines(_decoded(path, errors).split("\n")):
        if isinstance(cells, dict):
            rows.append((line, cells))
        else:
            errors.add(f"{path.name}:{line}", f"{cells}: {quote(source)}")
    columns = tuple(dict.fromkeys(column for _, cells in rows for column in cells))
    return _table(path, columns, rows, errors, earlier)


def _read_parquet(path: Path) -> Table:
    import pyarrow  # slow: not at module level
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"Cannot read {path.name} as Parquet ({error}).") from error
    return Table(file=path.name, columns=tuple(table.column_names), rows=list(enumerate(table.to_pylist(), start=1)))


def _table(path: Path, columns: tuple[str, ...], rows: _Rows, errors: RowErrors, earlier: int) -> Table:
    if not rows and errors.count == earlier:
        errors.add(f"{path.name}:1", "is an empty file: it has no rows")
    return Table(file=path.name, columns=columns, rows=rows)


def _decoded(path: Path, errors: RowErrors) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        for line, raw in enumerate(content.split(b"\n"), start=1):
            try:
                raw.decode("utf-8")
            except UnicodeDecodeError as error:
                errors.add(f"{path.name}:{line}", f"invalid UTF-8 at byte {error.start + 1}: {quote(raw)}")
        # The rest of the file is checked as well, so that one run names every fault.
        return content.decode("utf-8-sig", errors="replace")
