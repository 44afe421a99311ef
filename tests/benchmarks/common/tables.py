"""Tables of measured figures: ours, the reference, their ratio and the goal."""

import math
from dataclasses import dataclass
from statistics import median
from textwrap import wrap

__all__ = ["COLUMNS", "Row", "Table"]

COLUMNS = ("measure", "reference", "ours", "ratio", "min-max", "goal")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measure: a figure of each repetition, with the reference's figure in the same repetition where there is one.

    at_least and below are goals: bounds of the median ratio, or of our median where there is no reference.
    Infinity means "not reached"; the median is infinite when most repetitions did not reach the value.
    """

    measure: str
    ours: list[float]
    reference: list[float] | None = None
    more_is_better: bool = False
    at_least: float | None = None
    below: float | None = None

    @property
    def ratios(self) -> list[float] | None:
        """Return how many times better ours is in each repetition; below 1 it is worse. None without a reference."""
        if self.reference is None:
            return None
        pairs = zip(self.ours, self.reference, strict=True)
        return [ours / other if self.more_is_better else other / ours for ours, other in pairs]

    def cells(self) -> tuple[str, ...]:
        """Return the texts under COLUMNS: medians, and the range of the ratio, or of ours without a reference."""
        judged = self.ratios or self.ours
        medians = [_number(median(values)) if values else "-" for values in (self.reference, self.ours, self.ratios)]
        extremes = f"{_number(min(judged))} to {_number(max(judged))}"
        return (self.measure, *medians, extremes, self._verdict(median(judged)))

    def _verdict(self, value: float) -> str:
        if self.at_least is not None:
            return f"at least {self.at_least:g}: {'met' if value >= self.at_least else 'missed'}"
        return "-" if self.below is None else f"below {self.below:.3g}: {'met' if value < self.below else 'missed'}"


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of a benchmark and a note on how to read them; a skipped benchmark has only the note."""

    title: str
    rows: tuple[Row, ...] = ()
    note: str = ""

    def text(self) -> str:
        """Return the table as plain text."""
        cells = [COLUMNS, *(row.cells() for row in self.rows)] if self.rows else []
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in cells]
        return "\n".join([self.title, *(f"  {line}".rstrip() for line in [*lines, *wrap(self.note, 110)])])

    def as_json(self) -> dict[str, object]:
        """Return the table for JSON, with the figures of every repetition."""
        return {"title": self.title, "rows": [_row_as_json(row) for row in self.rows], "note": self.note}


def _row_as_json(row: Row) -> dict[str, object]:
    # JSON has no infinity.
    ours = [None if math.isinf(value) else value for value in row.ours]
    return {**vars(row), "ours": ours, "ratios": row.ratios, "goal": row.cells()[-1]}


def _number(value: float) -> str:
    if math.isinf(value):
        return "not reached"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
