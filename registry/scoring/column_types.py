"""Types for the columns of files that do not state any: JSON Lines and CSV."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow
import pyarrow.compute

__all__ = ["UNTYPED", "json_schema", "number_type", "to_array", "to_numbers"]

UNTYPED = {b"cells": b"csv"}
"""Metadata of a CSV column other than the text: its cells are text only because CSV has no types."""

_JSON_TEXT = {b"cells": b"json"}


def json_schema(objects: Iterable[Mapping[str, Any]]) -> pyarrow.Schema:
    """Return the columns of JSON objects, in the order in which they first appear.

    A column of one type keeps it; integers among floats become floats where that changes no value. The values of any
    other column, nested or of several types, become JSON text.
    """
    kinds: dict[str, set[object]] = {}
    for one in objects:
        for name, value in one.items():
            of_column = kinds.setdefault(name, set())
            if value is not None:
                of_column.add(_kind(value))
    return pyarrow.schema([_json_field(name, of_column) for name, of_column in kinds.items()])


def to_array(values: Iterable[Any], field: pyarrow.Field) -> pyarrow.Array:
    """Return the values of a column that `json_schema` described."""
    if field.metadata == _JSON_TEXT:
        values = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
    return pyarrow.array(values, field.type)


def number_type(chunks: Iterable[pyarrow.ChunkedArray]) -> pyarrow.DataType:
    """Return int64 or float64 when it spells every cell of a CSV column as the file does, else string.

    An empty cell fits both; a column of empty cells stays text. `007` and `1.10` are no numbers: they may be codes.
    """
    kinds = [pyarrow.int64(), pyarrow.float64()]
    filled = False
    for cells in chunks:
        filled = filled or any(cells.to_pylist())
        kinds = [kind for kind in kinds if _is_spelled_as(kind, cells)]
    return kinds[0] if filled and kinds else pyarrow.string()


def to_numbers(cells: pyarrow.ChunkedArray, kind: pyarrow.DataType) -> pyarrow.ChunkedArray:
    """Return the cells as numbers, empty ones as null."""
    empty = pyarrow.compute.equal(cells, "")
    return pyarrow.compute.if_else(empty, pyarrow.scalar(None, pyarrow.string()), cells).cast(kind)


def _is_spelled_as(kind: pyarrow.DataType, cells: pyarrow.ChunkedArray) -> bool:
    try:
        spelled = pyarrow.compute.fill_null(to_numbers(cells, kind).cast(pyarrow.string()), "")
    except pyarrow.ArrowInvalid:  # a cell is no number of this kind
        return False
    # Arrow spells 1.0 as `1`.
    whole = pyarrow.compute.replace_substring_regex(cells, r"\.0$", "") if kind == pyarrow.float64() else cells
    return bool(spelled.equals(whole))


def _json_field(name: str, kinds: set[object]) -> pyarrow.Field:
    if kinds <= {str}:  # or only nulls
        return pyarrow.field(name, pyarrow.string())
    if kinds == {bool}:
        return pyarrow.field(name, pyarrow.bool_())
    if kinds <= {int, "int64"}:
        return pyarrow.field(name, pyarrow.int64())
    if kinds <= {int, float}:
        return pyarrow.field(name, pyarrow.float64())
    return pyarrow.field(name, pyarrow.string(), metadata=_JSON_TEXT)


def _kind(value: Any) -> object:
    """Return the type of a value; for an integer that a float cannot hold, `int64`, or `text` when it is larger."""
    if type(value) is not int or abs(value) <= 2**53:  # not isinstance: a bool is an int too
        return type(value)
    return "int64" if -(2**63) <= value < 2**63 else "text"
