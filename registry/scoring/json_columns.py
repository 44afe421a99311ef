"""Columns for rows of JSON, which name and type their values one by one."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow

__all__ = ["find_columns", "to_array"]

_JSON_TEXT = {b"json": b"text"}
_EXACT_AS_FLOAT = 2**53
_LARGEST_INTEGER = 2**63
_TYPES = {
    frozenset[str](): pyarrow.string(),
    frozenset({"string"}): pyarrow.string(),
    frozenset({"bool"}): pyarrow.bool_(),
    frozenset({"int"}): pyarrow.int64(),
    frozenset({"long"}): pyarrow.int64(),
    frozenset({"int", "long"}): pyarrow.int64(),
    frozenset({"float"}): pyarrow.float64(),
    frozenset({"int", "float"}): pyarrow.float64(),
}


def find_columns(rows: Iterable[Mapping[str, Any]]) -> pyarrow.Schema:
    """Every column of the rows, in the order in which they first appear.

    A column of one type keeps it; whole numbers among fractions become fractions where that changes none. All values of
    any other column, nested or of several types, become JSON text.
    """
    kinds: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.items():
            found = kinds.setdefault(name, set())
            if value is not None:
                found.add(_kind(value))
    return pyarrow.schema([_field(name, frozenset(found)) for name, found in kinds.items()])


def to_array(values: Iterable[Any], field: pyarrow.Field) -> pyarrow.Array:
    """The values of a column that `find_columns` described."""
    if field.metadata == _JSON_TEXT:
        values = [None if value is None else _dump(value) for value in values]
    return pyarrow.array(values, field.type)


def _field(name: str, kinds: frozenset[str]) -> pyarrow.Field:
    plain = _TYPES.get(kinds)
    return pyarrow.field(name, plain) if plain else pyarrow.field(name, pyarrow.string(), metadata=_JSON_TEXT)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        if abs(value) <= _EXACT_AS_FLOAT:
            return "int"
        return "long" if -_LARGEST_INTEGER <= value < _LARGEST_INTEGER else "other"
    return {str: "string", float: "float"}.get(type(value), "other")


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
