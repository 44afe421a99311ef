"""Rows on their way from the input to the output, so many at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow

from registry.scoring.rows_in import Reject

__all__ = ["LARGEST", "Chunk", "Source"]

LARGEST = 32 * 2**20
"""Characters or bytes of input after which a chunk ends, however few its rows are."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Rows that follow each other in the file."""

    table: pyarrow.Table
    """Those that can be scored, with the columns of the file."""
    texts: Sequence[str]
    objects: Sequence[str] | None = None
    """The rows of `table` as JSON objects, where the file has them as such."""
    rejects: Sequence[Reject]
    position: int
    """How much of the file has been read at their end, in the unit of the source."""

    @property
    def rows(self) -> int:
        """Number of rows, rejects included."""
        return len(self.texts) + len(self.rejects)


class Source(Protocol):
    """A file to score. Reading it twice gives the same chunks."""

    @property
    def unit(self) -> str:
        """What `total` and the positions of chunks count."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""

    @property
    def total(self) -> int:
        """Size of the file in this unit."""

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """Chunks of at most so many rows."""
