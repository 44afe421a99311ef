"""Reads single cells of a table. A new spelling of texts, labels or ids is added here."""

from collections.abc import Mapping
from typing import Any

from trainer.data.sources.errors import quote

__all__ = ["Label", "read_id", "read_indicators", "read_labels", "read_text"]

Label = str | int
"""Name or id of a label."""


def read_text(cell: Any) -> str:
    """Return the text of a cell. Raises ValueError when it is blank or no text."""
    if not isinstance(cell, str):
        raise ValueError(f"text must be a string: {quote(cell)}")  # noqa: TRY004  collected with the faults of a row
    if not cell.strip():
        raise ValueError(f"empty text: {quote(cell)}")
    try:
        cell.encode()  # JSON can spell half a surrogate pair, and tokenizers raise TypeError for it
    except UnicodeEncodeError as error:
        raise ValueError(f"text contains half a surrogate pair at {error.start + 1}: {quote(cell)}") from error
    return cell


def read_id(cell: Any) -> str:
    """Return the id of an example. Raises ValueError for anything but a string or a whole number."""
    if not isinstance(cell, str | int) or not str(cell).strip():
        raise ValueError(f"id must be a string or a whole number: {quote(cell)}")
    return str(cell)


def read_labels(cell: Any) -> tuple[Label, ...]:
    """Return the labels of a cell: names or ids, joined by `|` or else by comma, or in a list; none in a blank cell."""
    if isinstance(cell, str):
        if not cell.strip():
            return ()
        return tuple(part.strip() for part in cell.split("|" if "|" in cell else ","))
    parts = cell if isinstance(cell, list | tuple) else [cell]
    # A bool is an int in Python, but no id.
    if any(isinstance(part, bool) or not isinstance(part, str | int) for part in parts):
        raise ValueError(f"labels must be names or ids: {quote(cell)}")
    return tuple(parts)


def read_indicators(cells: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the labels whose cell is 1, and those that were not annotated: their cell is empty or null.

    Raises ValueError for other values, and where every cell is empty: that could mean that no label is present.
    """
    values = {name: _read_indicator(name, cell) for name, cell in cells.items()}
    if all(value is None for value in values.values()):
        raise ValueError("has no annotated label: write 0 where a label is absent, or remove the row")
    return (
        tuple(name for name, value in values.items() if value),
        tuple(name for name, value in values.items() if value is None),
    )


def _read_indicator(name: str, cell: Any) -> bool | None:
    value = cell.strip() if isinstance(cell, str) else cell
    if value in ("", None):
        return None
    if value in ("0", "1"):
        return bool(value == "1")
    if value in (0, 1):  # also True and 1.0, as Parquet may store them
        return bool(value)
    raise ValueError(f"label column {name!r} must be 0, 1 or empty: {quote(cell)}")
