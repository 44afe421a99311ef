"""Parsers of CSV, JSON Lines and plain text that account for every row once: as a row or as a reject.

The standard library splits the rows, not pyarrow.csv or pandas: these read everything between two stray quotation marks
as one cell, without an error, and give no position for a row that they skip.
"""

import csv
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "NOT_UTF8",
    "Parsed",
    "Reject",
    "Row",
    "check",
    "is_fit",
    "is_unicode",
    "parse_csv",
    "parse_json_lines",
    "parse_text",
    "why_unfit",
]

NOT_UTF8 = "row is not UTF-8"

_MAX_CELL = 16 * 2**20
_MAX_SHOWN = 200

Parsed = tuple[int, dict[str, Any] | list[str] | str, str]
"""Line number from 1, the cells or the reason why there are none, and the row as the file spells it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row that can be scored."""

    cells: Mapping[str, Any]
    source: str


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that cannot be scored."""

    row: int
    """Number among the data rows, from 1."""
    line: int | None
    """Line of the file where the row begins, from 1; none in Parquet."""
    reason: str
    source: str

    def to_json(self) -> str:
        """Return the line of the rejects file, with the first 200 characters of the row."""
        line = {} if self.line is None else {"line": self.line}
        # Bytes that are not UTF-8 appear as their codes.
        content = self.source[:_MAX_SHOWN].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        content += "..." * (len(self.source) > _MAX_SHOWN)
        return json.dumps({"row": self.row, **line, "reason": self.reason, "content": content}, ensure_ascii=False)


def why_unfit(text: object) -> str:
    """Return the reason why a text cannot be scored; empty when it can."""
    if text is None:
        return "text is null"
    if not isinstance(text, str):
        return f"text must be a string, but is of type {type(text).__name__}"
    return "" if text.strip() else "text is blank"


def is_fit(cells: Mapping[str, Any], text_column: str) -> bool:
    """Return whether the row of these cells can be scored."""
    return not why_unfit(cells.get(text_column))


def check(parsed: Iterable[Parsed], columns: Sequence[str], text_column: str) -> Iterator[Row | Reject]:
    """Yield each parsed row as a Row or a Reject. columns: names for rows that are lists of cells."""
    for number, (line, cells, source) in enumerate(parsed, start=1):
        reason = _why_rejected(cells, source, columns, text_column)
        if reason or isinstance(cells, str):
            yield Reject(number, line, reason, source)
        else:
            yield Row(cells if isinstance(cells, dict) else dict(zip(columns, cells, strict=True)), source)


def _why_rejected(
    cells: dict[str, Any] | list[str] | str, source: str, columns: Sequence[str], text_column: str
) -> str:
    if not is_unicode(source):
        return NOT_UTF8
    if isinstance(cells, str):
        return cells
    if isinstance(cells, list):
        if len(cells) != len(columns):
            return f"row must have {len(columns)} fields, but has {len(cells)}"
        return why_unfit(cells[columns.index(text_column)])
    return why_unfit(cells[text_column]) if text_column in cells else "text is missing"


def parse_csv(lines: Iterator[str], delimiter: str) -> Iterator[Parsed]:
    """Yield the records of a CSV file, its header included; blank lines are no records.

    lines: as in the file, with their ends. A quotation mark that is never closed, or closes in the middle of a cell,
    rejects the line where the record begins and not the rows after it. In a tab-separated file it is a letter.
    """
    csv.field_size_limit(_MAX_CELL)
    feed = _Lines(lines)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        line = feed.number
        cells: list[str] | str
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            source = feed.release(1)
            cells = source.rstrip("\r\n").split(delimiter)
            if delimiter != "\t":
                cells = f"row cannot be split into columns ({error})"
        else:
            source = feed.release()
        if cells:
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

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._again: deque[str] = deque()
        self._taken: list[str] = []
        self.number = 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self._taken.append(line)
        return line

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
        return f"row is not JSON ({error.msg}, character {error.pos + 1})"
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or thousands of brackets
        return f"row is not usable JSON ({error})"
    if not isinstance(value, dict):
        return "row is not a JSON object"
    if "\\ud" in text.lower() and not is_unicode(json.dumps(value, ensure_ascii=False)):
        return "row has an escape that is half of a character"
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
