"""Reads files into rows of named cells with their lines; `rows.py` interprets the cells."""

import io
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.core.data_files import check_file, damage_reported, find_not_utf8, without_rows
from trainer.core.errors import DataError, shorten
from trainer.core.text_rows import NOT_UTF8, Parsed, parse_csv, parse_json_lines, parse_table
from trainer.data.sources.errors import RowErrors, quote

__all__ = ["Table", "read_delimited", "read_table"]

_LINE_END = "\r\n"
_MAX_BYTES = 8 * 2**30  # rows are kept in memory, where they need several times the size of their file
_START = 2**16
_NAME_CHARACTERS = 40  # of a file in a command that an error proposes
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
    _check_size(path)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path, errors)
    if suffix in (".csv", ".tsv"):
        records = parse_table(_lines(path, errors), suffix)
        return _to_table(path, _header(records, path.name), records, errors)
    return _read_json_lines(path, errors)


def read_delimited(
    path: Path, errors: RowErrors, *, delimiter: str, quoted: bool = True, header: Sequence[str] | None = None
) -> Table:
    """Return the table of a delimited file. header: column names of a file without header line."""
    _check_size(path)
    records = parse_csv(_lines(path, errors), delimiter, quoted=quoted)
    return _to_table(path, header or _header(records, path.name), records, errors)


def _check_size(path: Path) -> None:
    check_file(path)
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise DataError(
            f"{shorten(path)} must have at most {_MAX_BYTES >> 30} GiB, got {size >> 30}. Take a sample of it."
        )


def _header(records: Iterator[Parsed], file: str) -> list[str]:
    line, cells, source = next(records, (1, list[str](), ""))
    if not isinstance(cells, list):
        raise DataError(f"{shorten(file)}:{line} must be the column names, got {quote(source.rstrip(_LINE_END))}.")
    return cells


def _to_table(path: Path, header: Sequence[str], records: Iterator[Parsed], errors: RowErrors) -> Table:
    columns, earlier = tuple(name.strip() for name in header), errors.count
    rows: _Rows = []
    for line, cells, source in records:
        if isinstance(cells, list) and len(cells) == len(columns):
            rows.append((line, dict(zip(columns, cells, strict=True))))
        else:
            fault = cells if isinstance(cells, str) else f"needs {len(columns)} columns, but has {len(cells)}"
            errors.add(f"{path.name}:{line}", f"{fault}: {quote(source.rstrip(_LINE_END))}")
    return _table(path, columns, rows, errors, earlier)


def _read_json_lines(path: Path, errors: RowErrors) -> Table:
    earlier = errors.count
    rows: _Rows = []
    for line, cells, source in parse_json_lines(_lines(path, errors, newline="\n")):
        if isinstance(cells, dict):
            rows.append((line, cells))
        else:
            errors.add(f"{path.name}:{line}", f"{cells}: {quote(source)}")
    columns = tuple(dict.fromkeys(column for _, cells in rows for column in cells))
    return _table(path, columns, rows, errors, earlier)


def _read_parquet(path: Path, errors: RowErrors) -> Table:
    import pyarrow.parquet  # slow: not at module level

    earlier = errors.count
    with damage_reported(path):
        table = pyarrow.parquet.read_table(path)
        not_utf8 = find_not_utf8(table)
        for row in not_utf8:
            errors.add(f"{path.name}:{row + 1}", f"row {NOT_UTF8}")
        skipped = set(not_utf8)
        numbers = [row + 1 for row in range(len(table)) if row not in skipped]
        rows: _Rows = list(zip(numbers, without_rows(table, not_utf8).to_pylist(), strict=True))
    return _table(path, tuple(table.column_names), rows, errors, earlier)


def _table(path: Path, columns: tuple[str, ...], rows: _Rows, errors: RowErrors, earlier: int) -> Table:
    if not rows and errors.count == earlier:
        errors.add(f"{path.name}:1", "is an empty file: it has no rows")
    return Table(file=path.name, columns=columns, rows=rows)


def _lines(path: Path, errors: RowErrors, newline: str = "") -> Iterator[str]:
    """Return the lines of a file with their ends. newline: "" leaves line ends to the csv module, for those in cells.

    JSON Lines end at newlines only: their strings may contain the other line ends of Unicode.
    """
    return io.StringIO(_decoded(path, errors), newline=newline)


def _decoded(path: Path, errors: RowErrors) -> str:
    with path.open("rb") as file:
        if b"\0" in file.read(_START):  # before all of it is read: a sparse file is long and has nothing else
            raise DataError(f"{shorten(path)} must be text in UTF-8, but has bytes of zero: it is UTF-16 or no text.")
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        _add_bytes(path, content.split(b"\n"), errors)
        # The rest of the file is checked as well, so that one run names every fault.
        return content.decode("utf-8-sig", errors="replace")


def _add_bytes(path: Path, lines: Sequence[bytes], errors: RowErrors) -> None:
    """Add an error for each line that is not UTF-8, or one for the file when no line with accents or such is."""
    faulty: dict[int, int] = {}
    foreign = [number for number, raw in enumerate(lines, start=1) if not raw.isascii()]
    for number in foreign:
        try:
            lines[number - 1].decode("utf-8")
        except UnicodeDecodeError as error:
            faulty[number] = error.start + 1
    if len(faulty) == len(foreign) > 1:
        raise DataError(
            f"{shorten(path)} must be UTF-8, but none of its {len(foreign)} lines with other than ASCII characters "
            f"is (first: line {foreign[0]}). It may be Latin-1 or Windows-1252: "
            f"iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(shorten(path.name, _NAME_CHARACTERS))} > utf8{path.suffix}"
        )
    for number, byte in faulty.items():
        errors.add(f"{path.name}:{number}", f"invalid UTF-8 at byte {byte}: {quote(lines[number - 1])}")
