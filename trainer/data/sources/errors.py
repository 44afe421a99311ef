"""Collects what is wrong with a data set, so that one error can name it all."""

from typing import Any

from trainer.core.errors import DataError

__all__ = ["RowErrors", "abbreviate"]

_SHOWN = 10
_VALUE_LENGTH = 60


def abbreviate(value: Any) -> str:
    """Return the value as an error prints it: its repr, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= _VALUE_LENGTH else text[: _VALUE_LENGTH - 3] + "..."


class RowErrors:
    """Counts errors with rows of a data set and keeps the first ten."""

    def __init__(self, dataset: str) -> None:
        self._dataset = dataset
        self._first: list[str] = []
        self.count = 0

    def add(self, place: str, message: str) -> None:
        """Record one problem. `place` is `file:line`, `message` names the value."""
        self.count += 1
        if len(self._first) < _SHOWN:
            self._first.append(f"  {place}: {message}")

    def raise_if_any(self) -> None:
        """Raise DataError with the count and the first ten errors, if there was one."""
        if not self.count:
            return
        which = "" if self.count <= _SHOWN else f" (first {_SHOWN} shown)"
        raise DataError(
            f"every row of the data set must be well formed, but got {self.count} "
            f"problem{'s' * (self.count > 1)}{which} in dataset={self._dataset!r}. Mend these lines:\n"
            + "\n".join(self._first)
        )
