"""Parses the rows of CSV, JSON Lines and plain text; a row that cannot be read costs no other row.

The standard library splits the rows, not pyarrow.csv or pandas: these read everything between two stray quotation marks
as one cell, without an error, and give no position for a row that they skip.
"""

import csv
import itertools
import json
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = [
    "NOT_UTF8",
    "Parsed",
    "is_unicode",
    "parse_csv",
    "parse_json_lines",
    "parse_table",
    "parse_text",
    "why_unfit",
]

NOT_UTF8 = "is not UTF-8"

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # Excel writes and reads it
_MAX_CELL = 16 * 2**20  # the csv module refuses cells of more than 131,072 characters by default

Parsed = tuple[int, dict[str, Any] | list[str] | str, str]
"""Line number from 1, the cells or the reason why there are none, and the row as the file spells it."""


def parse_table(lines: Iterator[str], suffix: str) -> Iterator[Parsed]:
    """Yield the records of a .csv or .tsv file that names its columns; the first one is the names, stripped.

    A .csv whose first line has semicolons and no comma is separated by semicolons, as spreadsheets write it where the
    comma is a decimal sign. A first line such as `sep=;` names the separator.
    """
    first = next(lines, "")
    marked = _SEPARATOR_LINE.fullmatch(first)
    if marked:
        records = parse_csv(lines, marked[1], first_line=2)
    else:
        delimiter = "\t" if suffix == ".tsv" else ";" if ";" in first and "," not in first else ","
        records = parse_csv(itertools.chain([first], lines), delimiter)
    for line, cells, source in itertools.islice(records, 1):
        yield line, [name.strip() for name in cells] if isinstance(cells, list) else cells, source
    yield from records


def parse_csv(lines: Iterator[str], delimiter: str, *, quoted: bool = True, first_line: int = 1) -> Iterator[Parsed]:
    """Yield the records of a CSV file, its header included; blank lines are no records.

    lines: as in the file, with their ends. quoted: False takes quotation marks as letters. first_line: number of the
    first of `lines`. A quotation mark that is never closed, or closes in the middle of a cell, costs the line where the
    record begins and not the rows after it. In a tab-separated file it is a letter, also where a later one closes it
    and every line between has as many cells as the first record.
    """
    csv.field_size_limit(_MAX_CELL)
    feed = _Lines(lines, first_line)
    width = 0
    reader = csv.reader(feed, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True)
    while True:
        line = feed.number  # before the record is read: a quoted cell may contain line ends
        cells: list[str] | str
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            source = feed.release(1)
            cells = source.rstrip("\r\n").split(delimiter)
            if delimiter != "\t":
                cells = f"cannot be split into columns ({error})"
        else:
            if delimiter == "\t" and quoted and feed.are_rows(delimiter, width):
                source = feed.release(1)
                cells = source.rstrip("\r\n").split(delimiter)
            else:
                source = feed.release()
        if cells:
            width = width or len(cells)
            yield line, cells, source


def parse_json_lines(lines: Iterable[str]) -> Iterator[Parsed]:
    """Yield the objects of a JSON Lines file; blank lines are no rows."""
    return ((line, _parse_object(text), text.strip()) for line, text in enumerate(lines, start=1) if text.strip())


def parse_text(lines: Iterable[str]) -> Iterator[Parsed]:
    """Yield each line of a text file as one cell."""
    texts = (line.removesuffix("\n").removesuffix("\r") for line in lines)
    return ((number, [text], text) for number, text in enumerate(texts, start=1))


class _Lines:
    """Lines for the csv module; those of a record that it refuses can be read again."""

    def __init__(self, lines: Iterator[str], number: int) -> None:
        self._lines = lines
        self._again: deque[str] = deque()
        self._taken: list[str] = []
        self.number = number

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self._taken.append(line)
        return line

    def are_rows(self, delimiter: str, width: int) -> bool:
        """Return True when several lines were taken since the last release, and each has `width` cells."""
        return len(self._taken) > 1 and all(line.count(delimiter) == width - 1 for line in self._taken)

    def release(self, count: int | None = None) -> str:
        """Return the first `count` lines taken since the last call, or all; the others are read again."""
        done = self._taken[:count]
        self._again.extendleft(reversed(self._taken[len(done) :]))
        self._taken.clear()
        self.number += len(done)
        return "".join(done)


def _parse_object(text: str) -> dict[str, Any] | str:
    """Return the object that a line spells, or why it spells none."""
    if not is_unicode(text):
        return NOT_UTF8
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return f"is not JSON ({error.msg}, character {error.pos + 1})"
    except (ValueError, RecursionError) as error:  # ValueError: Python limits the digits of an integer
        digits = f"a number has more than {sys.get_int_max_str_digits():,} digits"
        return f"is not usable JSON ({'nested too deeply' if isinstance(error, RecursionError) else digits})"
    if not isinstance(value, dict):
        return "is not a JSON object"
    # `json.loads` accepts an escape of half a surrogate pair, which no UTF-8 file can contain.
    if "\\ud" in text.lower() and not is_unicode(json.dumps(value, ensure_ascii=False)):
        return "has an escape that is half of a character"
    return value


def is_unicode(text: str) -> bool:
    """Return False for bytes that were not UTF-8 (read with `surrogateescape`) and for halves of characters."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def why_unfit(text: object) -> str:
    """Return the reason why a cell is no text of an example; empty when it is one."""
    if text is None:
        return "text is null"
    if not isinstance(text, str):
        return f"text must be a string, but is of type {type(text).__name__}"
    return "" if text.strip() else "text is blank"
