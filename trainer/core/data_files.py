"""What training and prediction share in reading data files: suffixes, checks of a whole file, rows of Parquet."""

import shlex
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.core.errors import DataError, nearest, shorten
from trainer.core.input_files import show_path

if TYPE_CHECKING:
    import pyarrow

__all__ = ["SUFFIXES", "check_columns", "check_file", "damage_reported", "find_not_utf8", "without_rows"]

SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".json")
"""Suffixes of the files that name their columns, in lower case; .json is read as JSON Lines."""

_MAX_SHOWN = 10
_MAX_NAME = 30
_NAME_CHARACTERS = 40  # of a file in a command that an error proposes
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def check_file(path: Path) -> None:
    """Raise DataError unless a file is regular, readable and not empty, and begins as its suffix says."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe blocks, and a device has no end
            raise DataError(f"{show_path(path)} must be a regular file, not a folder, pipe or device.")
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise DataError(f"Cannot read {show_path(path)} ({error.strerror}).") from error
    if not start:
        raise DataError(f"{shorten(path)} must have rows, but is empty.")
    name = shlex.quote(shorten(path.name, _NAME_CHARACTERS))
    if start[:2] in _UTF16:
        raise DataError(
            f"{shorten(path)} must be UTF-8, but is UTF-16. Convert it: "
            f"iconv -f UTF-16 -t UTF-8 {name} > utf8{path.suffix}"
        )
    if path.suffix.lower() == ".json" and start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        raise DataError(
            f"{shorten(path)} must have one JSON object per line, but is one array. Convert it: "
            f"jq -c '.[]' {name} > {shlex.quote(f'{shorten(path.stem, _NAME_CHARACTERS)}.jsonl')}"
        )


def check_columns(file: Path | str, columns: Sequence[str], text_column: str) -> None:
    """Raise DataError when two columns have one name, or none has that of the text column."""
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise DataError(
            f"Column names must differ, got {shorten(', '.join(repeated))} more than once in {shorten(file)}. "
            "Rename them."
        )
    if text_column in columns:
        return
    remedy = nearest(text_column, columns) + " Name the column of texts with text_column."
    if separator := next((one for one in "\t|;" if len(columns) == 1 and one in columns[0]), ""):
        remedy = f" Its columns seem to be separated by {separator!r}: use commas in .csv and tabs in .tsv."
    shown = ", ".join(f"`{shorten(name, _MAX_NAME)}`" for name in columns[:_MAX_SHOWN])
    more = f" and {len(columns) - _MAX_SHOWN} more" if len(columns) > _MAX_SHOWN else ""
    raise DataError(
        f"{shorten(file)} has no column `{text_column}`, got {shown}{more}.{remedy} "
        "The first line of a .csv or .tsv must name the columns."
    )


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Raise DataError instead of the errors of a Parquet file that is damaged, or has values that Python lacks."""
    import pyarrow  # slow: not at module level

    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{shorten(path)} must be readable as Parquet ({shorten(error)}).") from error


def find_not_utf8(table: "pyarrow.Table") -> list[int]:
    """Return the rows with a string that is not UTF-8, which Parquet may contain."""
    import pyarrow

    try:
        table.validate(full=True)
    except pyarrow.ArrowInvalid:
        if len(table) == 1:
            return [0]
        half = len(table) // 2
        return find_not_utf8(table.slice(0, half)) + [half + row for row in find_not_utf8(table.slice(half))]
    return []


def without_rows(table: "pyarrow.Table", rows: Collection[int]) -> "pyarrow.Table":
    """Return a table without these rows, which must be sorted."""
    import pyarrow

    # Slices, because `Table.take` and `Table.filter` do not support every type. No empty ones: `pyarrow.csv.write_csv`
    # writes whatever its memory contains for a table that begins with one.
    gaps = zip([0, *(row + 1 for row in rows)], [*rows, len(table)], strict=True)
    kept = [table.slice(start, end - start) for start, end in gaps if end > start]
    return pyarrow.concat_tables(kept) if kept else table.slice(0, 0)
