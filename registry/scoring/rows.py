"""Checks the rows of text files: each one can be scored, or is rejected with its position and the reason."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.core.text_rows import NOT_UTF8, Parsed, is_unicode, why_unfit

__all__ = ["Reject", "Row", "check", "is_fit"]

_MAX_SHOWN = 200


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
        return f"row {NOT_UTF8}"
    if isinstance(cells, str):
        return f"row {cells}"
    if isinstance(cells, list):
        if len(cells) != len(columns):
            return f"row must have {len(columns)} fields, but has {len(cells)}"
        return why_unfit(cells[columns.index(text_column)])
    return why_unfit(cells[text_column]) if text_column in cells else "text is missing"
