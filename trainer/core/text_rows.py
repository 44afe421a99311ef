"""Parses the rows of CSV, JSON Lines and plain text; a row that cannot be read costs no other row.

The standard library splits the rows, not pyarrow.csv or pandas: these read everything between two stray quotation marks
as one cell, without an error, and give no position for a row that they skip.
"""

import csv
import json
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["NOT_UTF8", "Parsed", "is_unicode", "parse_csv", "parse_json_lines", "parse_text"]

NOT_UTF8 = "is not UTF-8"

_MAX_CELL = 16 * 2**20  # the csv module refuses cells of more than 131,072 characters by default

Parsed = tuple[int, dict[str, Any] | list[str] | str, str]
"""Line number from 1, the cells or the reason why there are none, and the row as the file spells it."""


def parse_csv(lines: Iterator[str], delimiter: str, *, quoted: bool = True) -> Iterator[Parsed]:
    """Yield the records of a CSV file, its header included; blank lines are no records.

    lines: as in the file, with their ends. quoted: False takes quotation marks as letters. A quotation mark that is
    never closed, or closes in the middle of a cell, costs the line where the record begins and not the rows after it;
    in a tab-separated file it is a letter.
    """
    csv.field_size_limit(_MAX_CELL)
    feed = _Lines(lines)
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
        return f"is not JSON ({error.msg}, character {error.pos + 1})"
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or thousands of brackets
        return f"is not usable JSON ({error})"
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
