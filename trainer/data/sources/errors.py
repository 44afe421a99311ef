"""Collects the faults of a data set's rows, so that one error names them together."""

from typing import Any

from trainer.core.errors import DataError, shorten

__all__ = ["RowErrors", "quote"]

_SHOWN_ERRORS = 10
_SHOWN_CHARACTERS = 60


def quote(value: Any) -> str:
    """Return the repr of a cell, at most 60 characters: quotes show white space and tell a string from a number."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


class RowErrors:
    """Counts faulty rows of a data set and keeps the messages of the first ten, and warnings."""

    def __init__(self, dataset: str) -> None:
        self._dataset = dataset
        self._first: list[str] = []
        self.count = 0
        self._warnings: dict[str, list[str]] = {}

    def add(self, place: str, message: str) -> None:
        """Record a fault. place: `file:line`. message: names the value."""
        self.count += 1
        if len(self._first) < _SHOWN_ERRORS:
            self._first.append(f"  {place}: {message}")

    def warn(self, message: str, place: str) -> None:
        """Record what the user should know of usable data. place: the file, and a count where there is one."""
        self._warnings.setdefault(message, []).append(place)

    @property
    def warnings(self) -> list[str]:
        """The warnings, each with the places where it applies."""
        return [f"{message}: {', '.join(places)}." for message, places in self._warnings.items()]

    def raise_if_any(self) -> None:
        """Raise DataError with the count and the first ten faults, when there is one."""
        if not self.count:
            return
        first = "" if self.count <= _SHOWN_ERRORS else f" (first {_SHOWN_ERRORS} shown)"
        raise DataError(
            f"The data set {shorten(self._dataset)} has {self.count} faulty row{'s' * (self.count > 1)}{first}. "
            "Correct them:\n" + "\n".join(self._first)
        )
