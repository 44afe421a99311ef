"""Reads single cells of a table. A new spelling of texts, labels or ids is added here."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.core.settings import show
from trainer.core.text_rows import why_unfit
from trainer.data.sources.errors import quote
from trainer.data.sources.listed_cells import is_listed, parse_listed

__all__ = ["Label", "LabelCell", "read_id", "read_indicators", "read_kept", "read_labels", "read_text"]

Label = str | int
"""Name or id of a label."""

_WHOLE = re.compile(r"(\d+)\.0+")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_WORDS = {"true": 1.0, "false": 0.0}
_MAX_WHOLE = 2**53


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelCell:
    """The labels of an example as its cells state them."""

    values: Mapping[Label, float | None] = field(default_factory=dict)
    """Label → value in [0, 1]; None where the label was not annotated."""
    numbers: tuple[float | None, ...] = ()
    """A list of numbers: ids, or one value per label. The list of labels decides which."""
    joined: bool = False
    """Whether the labels are joined in one text."""


def read_text(cell: Any) -> str:
    """Return the text of a cell. Raises ValueError when it is blank or no text."""
    if reason := why_unfit(cell):
        raise ValueError(f"{reason}: {quote(cell)}")
    text: str = cell
    try:
        text.encode()  # JSON can spell half a surrogate pair, and tokenizers raise TypeError for it
    except UnicodeEncodeError as error:
        raise ValueError(f"text contains half a surrogate pair at {error.start + 1}: {quote(cell)}") from error
    return text


def read_id(cell: Any) -> str | None:
    """Return the id of an example; None for anything but a whole number or a string that is not blank."""
    if isinstance(cell, bool) or not isinstance(cell, str | int) or not str(cell).strip():
        return None
    return str(cell)


def read_kept(cell: Any) -> str:
    """Return the cell of a kept column as text without spaces around it; "" for one that is empty, null or NaN."""
    return "" if _is_blank(cell) else show(cell).strip().encode("utf-8", "backslashreplace").decode("utf-8")


def read_labels(cell: Any, *, separator: str, listed: Collection[str]) -> LabelCell:
    """Return the labels of a cell: names or ids, joined, in a list, or as an object of label and value.

    separator: see `DataConfig.label_separator`. listed: names that a list of labels states; a cell with such a name is
    that label, whatever signs it has. A blank cell has no label. Raises ValueError for anything else.
    """
    if not isinstance(cell, str):
        return _read_value(cell, listed)
    text = cell.strip()
    if text in listed:
        return LabelCell(values={text: 1.0})
    if is_listed(text):
        return _read_value(parse_listed(text), listed)
    names = [part if part in listed else _WHOLE.sub(r"\1", part) for part in _split(text, separator)]
    return LabelCell(values=dict.fromkeys(names, 1.0), joined=True)


def read_indicators(cells: Mapping[str, Any]) -> LabelCell:
    """Return the labels of one cell per label: a value in [0, 1], or empty, null or -1 where it was not annotated.

    Raises ValueError for other values, and where every cell is empty: that could mean that no label is present.
    """
    values: dict[Label, float | None] = {name: _read_indicator(name, cell) for name, cell in cells.items()}
    if all(_is_blank(cell) for cell in cells.values()):
        raise ValueError("has no annotated label: write 0 where a label is absent, or remove the row")
    return LabelCell(values=values)


def _split(text: str, separator: str) -> list[str]:
    if separator == "auto":
        separator = "|" if "|" in text else ","
    parts = [text] if separator == "none" else text.split(separator)
    return [part.strip() for part in parts if part.strip()]


def _read_value(value: Any, listed: Collection[str]) -> LabelCell:
    if _is_blank(value):
        return LabelCell()
    if isinstance(value, dict):
        (first, *others) = value.values() or [None]
        if isinstance(first, list) and not others:  # {"choices": ["joy"]}
            return _read_value(first, listed)
        return read_indicators(value)
    if isinstance(value, list | tuple):
        return _read_list(value, listed)
    if isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0:
        return LabelCell(values={int(value): 1.0})
    raise ValueError(f"labels must be names or ids: {quote(value)}")


def _read_list(parts: Sequence[Any], listed: Collection[str]) -> LabelCell:
    filled = [part.strip() if isinstance(part, str) else part for part in parts if not _is_blank(part)]
    if all(isinstance(part, str) for part in filled):
        if not filled or not all(_NUMBER.fullmatch(part) and part not in listed for part in filled):
            return LabelCell(values=dict.fromkeys(filled, 1.0))
        return LabelCell(numbers=tuple(map(float, filled)))
    # A bool is an int in Python.
    if any(not isinstance(part, int | float) or abs(part) > _MAX_WHOLE for part in filled):
        raise ValueError(f"labels must be names or ids: {quote(list(parts))}")
    return LabelCell(numbers=tuple(None if _is_blank(part) else float(part) for part in parts))


def _read_indicator(name: str, cell: Any) -> float | None:
    value = cell.strip().lower() if isinstance(cell, str) else cell
    try:
        number = None if _is_blank(value) else _WORDS[value] if value in _WORDS else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.inf
    if number is None or number == -1 or math.isnan(number):
        return None
    if 0 <= number <= 1:
        return number
    raise ValueError(f"label column {name!r} must be between 0 and 1, or empty or -1 (not annotated): {quote(cell)}")


def _is_blank(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))
