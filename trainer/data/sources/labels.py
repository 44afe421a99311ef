"""Turns the labels of cells into columns of a matrix, and refuses labels that can be read in two ways."""

import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from trainer.core.errors import DataError, shorten
from trainer.data.sources.cells import Label, LabelCell
from trainer.data.sources.errors import RowErrors, quote

__all__ = ["LabelIndex", "check_spelling", "names_in"]

_LIST = re.compile(r"[\[({]\s*['\"]|['\"]\s*[\])}]")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_MIN_TOGETHER = 3
"""Occurrences of a cell from which labels that are never apart count as one name with a comma."""


def names_in(cells: Iterable[LabelCell]) -> tuple[str, ...]:
    """Return the names that occur, sorted. Raises DataError for ids: their names are not listed."""
    # Sorted, because the order of a set differs between processes.
    labels: set[Label] = set()
    ids: set[str] = set()
    for cell in cells:
        labels.update(cell.values)
        ids.update(f"{number:g}" for number in cell.numbers if number is not None)
    ids |= {str(label) for label in labels if isinstance(label, int) or _NUMBER.fullmatch(label)}
    if ids:
        raise DataError(
            f"The labels are numbers ({', '.join(sorted(ids)[:5])}), and their names are not listed. Add a labels.txt "
            "with one name a line: in the order of the ids, or of the values where each example has a value per label."
        )
    return tuple(sorted(str(label) for label in labels))


def check_spelling(cells: Sequence[tuple[str, LabelCell]], train: Sequence[LabelCell]) -> None:
    """Raise DataError for labels of joined text that may be several labels, or parts of one.

    cells: (place, labels) of all splits.
    """
    names = {str(label) for cell in train for label in cell.values}
    first = {str(label): place for place, cell in reversed(cells) if cell.joined for label in cell.values}
    for name, place in reversed(first.items()):
        if _LIST.search(name):
            raise DataError(f"{place}: the label {quote(name)} looks like a part of a list that cannot be read.")
        if reading := _find_joined(name, names):
            sign, parts = reading
            raise DataError(
                f"{place}: the label {quote(name)} looks like {shorten(' and '.join(parts), 60)}, joined by {sign!r}. "
                f"Set label_separator={shlex.quote(sign)} to split it. If it is one label, list all labels in "
                "labels.txt, one a line."
            )
    _check_commas(cells, train)


class LabelIndex:
    """Columns of labels by name and, where the source lists its labels, by id."""

    def __init__(self, names: tuple[str, ...], cells: Iterable[LabelCell], *, listed: bool) -> None:
        """Take the names, and whether lists of numbers are ids: not if all have one value in [0, 1] per label."""
        self.num_labels = len(names)
        self._listed = listed
        self._columns: dict[Label, int] = {}
        if listed:
            self._columns = {label: i for i in range(len(names)) for label in (i, str(i))}  # CSV has ids as text
        self._columns |= {name: i for i, name in enumerate(names)}  # after the ids: a name may look like one
        self._has_vectors = listed and all(self._is_vector(cell.numbers) for cell in cells if cell.numbers)

    def look_up(self, cell: LabelCell, place: str, errors: RowErrors) -> dict[int, float | None]:
        """Return column → value of the labels that are listed; the others are errors."""
        if self._has_vectors and cell.numbers:
            return {i: None if value == -1 else value for i, value in enumerate(cell.numbers)}
        if len(set(cell.numbers)) < len(cell.numbers) or not all(n is not None and n % 1 == 0 for n in cell.numbers):
            errors.add(
                place,
                f"has a list of numbers that are neither ids nor, as in all other rows, values in [0, 1] of the "
                f"{self.num_labels} labels: {quote(list(cell.numbers))}",
            )
            return {}
        values: dict[Label, float | None] = {**cell.values, **{int(n): 1.0 for n in cell.numbers if n is not None}}
        for label in values:
            if label not in self._columns:
                errors.add(place, self._complaint(label))
        return {self._columns[label]: value for label, value in values.items() if label in self._columns}

    def _is_vector(self, numbers: Sequence[float | None]) -> bool:
        return len(numbers) == self.num_labels and all(n is None or n == -1 or 0 <= n <= 1 for n in numbers)

    def _complaint(self, label: Label) -> str:
        if isinstance(label, int) or _NUMBER.fullmatch(label):
            last = f"ids go from 0 to {self.num_labels - 1}" if self._listed else "labels have names in train"
            return f"unknown label id {quote(label)}: {last}"
        where = "not in the list of labels" if self._listed else "it does not appear in train"
        reading = _find_joined(label, [name for name in self._columns if isinstance(name, str)])
        hint = f"; label_separator={shlex.quote(reading[0])} splits it" if reading else ""
        return f"unknown label {quote(label)}: {where}{hint}"


def _find_joined(name: str, known: Collection[str]) -> tuple[str, list[str]] | None:
    """Return the sign that splits a name into known labels, and these; a semicolon splits any."""
    for sign in dict.fromkeys(letter for letter in name if not letter.isalnum()):
        parts = [part.strip() for part in name.split(sign) if part.strip()]
        if len(parts) > 1 and (sign == ";" or all(part in known for part in parts)):
            return sign, parts
    return None


def _check_commas(cells: Sequence[tuple[str, LabelCell]], train: Sequence[LabelCell]) -> None:
    counts = Counter(label for cell in train for label in cell.values)
    together = Counter(tuple(cell.values) for cell in train if cell.joined and len(cell.values) > 1)
    for labels, count in together.items():
        if count >= _MIN_TOGETHER and all(counts[label] == count for label in labels):
            place = next(place for place, cell in cells if tuple(cell.values) == labels)
            name = ", ".join(map(str, labels))
            raise DataError(
                f"{place}: {shorten(name, 60)} occur {count} times in train, always together in one cell. If it is one "
                "label with a comma in its name, set label_separator=none, or list all labels in labels.txt, one a "
                "line. If it is several labels, set label_separator=,"
            )
