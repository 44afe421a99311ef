"""Text files to records: CSV, JSONL and plain text. Every row is accounted for once, as a record or as a reject."""

import csv
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.core.errors import DataError

__all__ = ["Record", "Reject", "json_records", "plain_records", "read_header", "split", "table_records", "why_unfit"]

_LONGEST_CELL = 16 * 2**20
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Record:
    """One row that could be read."""

    row: int
    """Data rows from 1."""
    line: int
    """Line of the file where it begins, from 1."""
    cells: dict[str, Any]
    source: str
    """As it stands in the file."""


@dataclass(frozen=True, slots=True)
class Reject:
    """One row that cannot be scored, and why."""

    row: int
    line: int | None
    reason: str
    source: str

    def facts(self) -> dict[str, Any]:
        """The entry of the rejects file: without `line` where the format has none, and with the content cut short."""
        line = {} if self.line is None else {"line": self.line}
        # Bytes that are not UTF-8 are shown by their codes.
        content = self.source[:_SHOWN].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        content += "..." * (len(self.source) > _SHOWN)
        return {"row": self.row, **line, "reason": self.reason, "content": content}


def why_unfit(text: object) -> str:
    """Why a text cannot be scored; empty when it can."""
    if text is None:
        return "text is null"
    if not isinstance(text, str):
        return f"text must be a string, but is of type {type(text).__name__}"
    return "" if text.strip() else "text is blank"


class _Lines:
    """Lines that the csv module consumes, kept until the record that they belong to is known to be well formed."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._again: deque[str] = deque()
        self._taken: list[str] = []
        self.line = 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self._taken.append(line)
        return line

    def accept(self) -> str:
        """The lines taken since the last call, as one text."""
        return self._pass(len(self._taken))

    def accept_one(self) -> str:
        """The first of these lines; the others will be read again."""
        self._again.extendleft(reversed(self._taken[1:]))
        return self._pass(1)

    def _pass(self, number: int) -> str:
        text = "".join(self._taken[:number])
        self.line += number
        self._taken.clear()
        return text


def split(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str] | str, str]]:
    """(line, cells, source) of each record of a CSV file; a text in place of the cells says why there are none.

    lines: as in the file, with their ends. Blank lines are no records. A quote that is never closed, or that closes in
    the middle of a cell, costs the line where the record begins and not the rows after it; between tabs it is a letter.
    """
    csv.field_size_limit(_LONGEST_CELL)
    feed = _Lines(lines)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        line = feed.line
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            source = feed.accept_one()
            plain = source.rstrip("\r\n").split(delimiter)
            # Where columns are parted by tabs, texts often hold quotes that mean nothing.
            yield line, plain if delimiter == "\t" else f"row cannot be split into columns ({error})", source
            continue
        source = feed.accept()
        if cells:
            yield line, cells, source


def read_header(records: Iterator[tuple[int, list[str] | str, str]], file: str) -> tuple[str, ...]:
    """Column names: the first of `records`. Raises DataError when there is none or it cannot be one."""
    _, columns, source = next(records, (1, [], ""))
    if isinstance(columns, str) or not columns or not _is_unicode(source):
        raise DataError(f"file must begin with its column names in UTF-8, but got {file=} with {source[:80]!r}.")
    return tuple(columns)


def table_records(
    records: Iterable[tuple[int, list[str] | str, str]], columns: Sequence[str]
) -> Iterator[Record | Reject]:
    """Rows of a CSV file after its header."""
    for row, (line, cells, source) in enumerate(records, start=1):
        if not _is_unicode(source):
            yield Reject(row, line, "row is not UTF-8", source)
        elif isinstance(cells, str):
            yield Reject(row, line, cells, source)
        elif len(cells) != len(columns):
            yield Reject(row, line, f"row must have {len(columns)} fields, but has {len(cells)}", source)
        else:
            yield Record(row, line, dict(zip(columns, cells, strict=True)), source)


def json_records(lines: Iterable[str]) -> Iterator[Record | Reject]:
    """Rows of a JSONL file; blank lines are none."""
    filled = ((line, text) for line, text in enumerate(lines, start=1) if text.strip())
    for row, (line, text) in enumerate(filled, start=1):
        parsed = _parse_object(text)
        yield Reject(row, line, parsed, text) if isinstance(parsed, str) else Record(row, line, parsed, text.strip())


def plain_records(lines: Iterable[str], column: str) -> Iterator[Record | Reject]:
    """Rows of a text file, one per line, as cells of one column."""
    for row, line in enumerate(lines, start=1):
        text = line.removesuffix("\n").removesuffix("\r")
        if _is_unicode(text):
            yield Record(row, row, {column: text}, text)
        else:
            yield Reject(row, row, "row is not UTF-8", text)


def _parse_object(text: str) -> dict[str, Any] | str:
    """The object that a line spells, or why it spells none."""
    if not _is_unicode(text):
        return "row is not UTF-8"
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return f"row is not JSON ({error.msg}, character {error.pos + 1})"
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or thousands of brackets
        return f"row is not usable JSON ({error})"
    if not isinstance(value, dict):
        return "row is not a JSON object"
    if "\\ud" in text.lower() and not _is_unicode(json.dumps(value, ensure_ascii=False)):
        return "row has an escape that is half of a character"
    return value


def _is_unicode(text: str) -> bool:
    """False for text from bytes that were not UTF-8 (read with `surrogateescape`), and for halves of characters."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
