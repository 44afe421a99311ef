"""Reads lists and objects that a table without types stores as text, as JSON, Python or NumPy spell them."""

import ast
import json
import re
from typing import Any

from trainer.data.sources.errors import quote

__all__ = ["is_listed", "parse_listed"]

_PAIRS = ("[]", "{}")
_QUOTES = ("'", '"')
_MAX_CHARACTERS = 100_000
# NumPy separates items by spaces, which Python's own parser takes for one string in two parts.
_ITEM = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,'"\[\](){}]+)\s*,?""")
_SCALAR = re.compile(r"np\.\w+\(([^()]*)\)")  # `np.str_('joy')`
_WORDS = {"true": True, "false": False, "none": None, "null": None, "nan": None}


def is_listed(text: str) -> bool:
    """Return True for a text that spells a list, set, tuple or object: it begins and ends with brackets."""
    return text[:1] + text[-1:] in _PAIRS or (text[:2] in ("('", '("') and text[-1:] == ")")


def parse_listed(text: str) -> list[Any] | dict[str, Any]:
    """Return the items of a list, or the values of an object. Raises ValueError when the text cannot be read."""
    fault = f"looks like a list, but cannot be read as one: {quote(text)}"
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(fault)
    if text[0] == "{" and ":" in text:
        return _parse_object(text, fault)
    inner, position, items = _SCALAR.sub(r"\1", text)[1:-1].rstrip(), 0, []
    while position < len(inner):
        found = _ITEM.match(inner, position)
        if found is None:
            raise ValueError(fault)
        items.append(_read_item(found[1], fault))
        position = found.end()
    return items


def _parse_object(text: str, fault: str) -> dict[str, Any]:
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last two: thousands of brackets
            continue
        if isinstance(value, dict):
            return value
    raise ValueError(fault)


def _read_item(text: str, fault: str) -> Any:
    try:
        if text[0] in _QUOTES:
            return json.loads(text) if text[0] == '"' else ast.literal_eval(text)
        return _WORDS[text.lower()] if text.lower() in _WORDS else float(text)
    except (ValueError, SyntaxError) as error:
        raise ValueError(fault) from error
