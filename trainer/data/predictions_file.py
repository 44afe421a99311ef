"""Reads a file of predictions that another program wrote, and finds the examples of a split in it."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.core.errors import DataError, shorten
from trainer.core.input_files import is_file, show_path
from trainer.data.config import DataConfig
from trainer.data.dataset import Split
from trainer.data.sources.cells import read_id, read_labels
from trainer.data.sources.columns import ID_COLUMNS, find_label_column
from trainer.data.sources.errors import RowErrors
from trainer.data.sources.listed_cells import is_listed, parse_listed
from trainer.data.sources.tabular import Table, read_table

__all__ = ["DECISIONS", "PREFIX", "SCORES", "PredictionsFile", "has_labels", "read_predictions_file"]

PREFIX = "probability_"
"""Before the name of a label in the columns that `predict` writes."""
SCORES = ("probabilities", "scores")
"""Columns with a list or an object of probabilities, one per label."""
DECISIONS = "predicted_labels"
"""Column with the labels that were decided, as `predict` writes it."""
_SHOWN = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionsFile:
    """Probabilities, and decisions where the file has them, of n rows and k labels."""

    file: str
    label_names: tuple[str, ...]
    ids: tuple[str, ...] | None
    """None where not every row has one, or two have the same."""
    texts: tuple[str, ...] | None
    probabilities: npt.NDArray[np.float64]
    """(n, k)"""
    decisions: npt.NDArray[np.bool_] | None
    """(n, k)"""
    labels: tuple[frozenset[str], ...] | None
    """Labels of each row as the file states them; None without such a column."""

    def rows_of(self, split: Split) -> npt.NDArray[np.intp]:
        """Return the row of each example, (n,): by id where the file has the ids of the split, otherwise by text.

        A text that occurs several times is found in the order of the file. Raises DataError when examples and rows are
        not the same ones, with counts and the first of each.
        """
        by_id = self.ids is not None and (self.texts is None or bool(set(self.ids) & set(split.example_ids)))
        wanted, found = (split.example_ids, self.ids) if by_id else (split.texts, self.texts)
        assert found is not None  # noqa: S101  # `read_predictions_file` requires ids or texts
        places = defaultdict(list)
        for row in reversed(range(len(found))):
            places[found[row]].append(row)
        missing = Counter(wanted) - Counter(found)
        extra = Counter(found) - Counter(wanted)
        if missing or extra:
            kind = "ids" if by_id else "texts"
            raise DataError(
                f"`predictions` must have the examples of the data, got {shorten(self.file, 60)} with other {kind}: "
                f"{_counted(missing, 'missing')}, {_counted(extra, 'not in the data')}."
            )
        return np.array([places[value].pop() for value in wanted], dtype=np.intp)

    def check_labels(self, split: Split, label_names: Sequence[str], rows: npt.NDArray[np.intp]) -> None:
        """Raise DataError when the labels that the file states are not those of the data."""
        if self.labels is None or not set().union(*self.labels) <= set(label_names):
            return  # it has none, or those of another vocabulary
        present = (split.labels >= 0.5) & split.observed
        theirs = [self.labels[row] for row in rows]
        ours = [frozenset(name for name, one in zip(label_names, row, strict=True) if one) for row in present]
        different = [at for at, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
        if different:
            first = different[0]
            raise DataError(
                f"`predictions` must have the labels of the data, got {len(different):,} examples with others in "
                f"{shorten(self.file, 60)}; first: {shorten(split.example_ids[first], 40)} has "
                f"{_listed(theirs[first])} there, {_listed(ours[first])} in the data."
            )


def has_labels(path: Path, config: DataConfig) -> bool:
    """Return whether a file of predictions has a column of labels, so that it needs no data set."""
    errors = RowErrors(str(path))
    return find_label_column(read_table(path, errors).columns, config) is not None


def read_predictions_file(path: Path, config: DataConfig, label_names: Sequence[str]) -> PredictionsFile:
    """Return the predictions of a CSV, TSV, JSON Lines or Parquet file.

    config: names of its columns. label_names: those of the data, in the order of a list of probabilities.
    Probabilities are in columns `probability_LABEL`; else in a column `probabilities` or `scores`, as a list in the
    order of the data's labels or as an object; else in a column per label. Raises DataError with all faulty rows.
    """
    if not is_file(path):
        raise DataError(f"`predictions` must be a file, got {show_path(path)}.")
    errors = RowErrors(str(path))
    table = read_table(path, errors)
    errors.raise_if_any()
    names, cells = _score_cells(table, config, label_names, errors)
    decisions = _label_sets(table, DECISIONS, config, names, errors) if DECISIONS in table.columns else None
    gold = find_label_column(table.columns, config, names)
    labels = _label_sets(table, gold, config, label_names, errors) if gold else None
    ids, texts = _ids(table), _texts(table, config.text_column)
    errors.raise_if_any()
    if ids is None and texts is None:
        raise DataError(
            f"`predictions` must have a column `{shorten(config.text_column)}` or distinct ids in a column `id`, got "
            f"{shorten(path.name)} with {shorten(', '.join(table.columns))}."
        )
    unknown = sorted(set().union(*decisions) - set(names)) if decisions else []
    if unknown:
        raise DataError(f"`{DECISIONS}` must name labels with probabilities, got {shorten(', '.join(unknown))}.")
    return PredictionsFile(
        file=str(path),
        label_names=names,
        ids=ids,
        texts=texts,
        probabilities=np.array(cells, dtype=np.float64),
        decisions=np.array([[name in row for name in names] for row in decisions]) if decisions else None,
        labels=labels,
    )


def _score_cells(
    table: Table, config: DataConfig, label_names: Sequence[str], errors: RowErrors
) -> tuple[tuple[str, ...], list[list[float]]]:
    """Return the labels and the probabilities of each row; faulty cells are added to `errors`."""
    prefixed = [name for name in table.columns if name.startswith(PREFIX)]
    listed = next((name for name in SCORES if name in table.columns), None)
    if prefixed:
        names, rows = tuple(name.removeprefix(PREFIX) for name in prefixed), _by_column(table, prefixed, errors)
    elif listed:
        names, rows = _by_list(table, listed, label_names, errors)
    else:
        taken = {config.text_column, config.label_column, DECISIONS, *config.kept_columns}
        others = [name for name in table.columns if name not in taken and name.casefold() not in ID_COLUMNS]
        columns = [name for name in others if name in label_names or _are_probabilities(table, name)]
        names, rows = tuple(columns), _by_column(table, columns, errors)
    errors.raise_if_any()
    if not names:
        raise DataError(
            f"`predictions` must have columns `{PREFIX}LABEL`, a column `{SCORES[0]}` with lists, or a column of "
            f"probabilities per label, got {shorten(table.file)} with {shorten(', '.join(table.columns))}."
        )
    return names, rows


def _by_column(table: Table, columns: Sequence[str], errors: RowErrors) -> list[list[float]]:
    return [
        [_probability(cells.get(name), f"{table.file}:{line}", name, errors) for name in columns]
        for line, cells in table.rows
    ]


def _by_list(
    table: Table, column: str, label_names: Sequence[str], errors: RowErrors
) -> tuple[tuple[str, ...], list[list[float]]]:
    values = [_parsed(cells.get(column)) for _, cells in table.rows]
    objects = [value for value in values if isinstance(value, dict)]
    names = tuple(objects[0]) if len(objects) == len(values) and values else tuple(label_names)
    rows = []
    for (line, _), value in zip(table.rows, values, strict=True):
        place = f"{table.file}:{line}"
        parts = [value[name] for name in names] if isinstance(value, dict) and set(value) == set(names) else value
        if not isinstance(parts, list) or len(parts) != len(names):
            errors.add(place, f"`{column}` must have one probability for each of {len(names)} labels")
            parts = [0.0] * len(names)
        rows.append([_probability(part, place, column, errors) for part in parts])
    return names, rows


def _parsed(cell: Any) -> Any:
    if not isinstance(cell, str) or not is_listed(cell.strip()):
        return cell
    try:
        return parse_listed(cell.strip())
    except ValueError:
        return None


def _probability(cell: Any, place: str, column: str, errors: RowErrors) -> float:
    value = _number(cell)
    if not 0.0 <= value <= 1.0:  # also NaN
        errors.add(place, f"`{shorten(column, 40)}` must be a probability in [0, 1], got {shorten(cell, 40)}")
        return 0.0
    return value


def _number(cell: Any) -> float:
    try:
        return math.nan if isinstance(cell, bool) or cell is None else float(cell)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _are_probabilities(table: Table, column: str) -> bool:
    return all(0.0 <= _number(cells.get(column)) <= 1.0 for _, cells in table.rows)


def _label_sets(
    table: Table, column: str, config: DataConfig, listed: Sequence[str], errors: RowErrors
) -> tuple[frozenset[str], ...]:
    sets = []
    for line, cells in table.rows:
        try:
            cell = read_labels(cells.get(column), separator=config.label_separator, listed=listed)
        except ValueError as error:
            errors.add(f"{table.file}:{line}", str(error))
            continue
        sets.append(frozenset(str(label) for label in cell.values))
    return tuple(sets)


def _ids(table: Table) -> tuple[str, ...] | None:
    column = next((name for name in table.columns if name.casefold() in ID_COLUMNS), None)
    ids = [read_id(cells.get(column)) for _, cells in table.rows] if column else []
    known = tuple(one for one in ids if one is not None)
    return known if known and len(set(known)) == len(table.rows) else None


def _texts(table: Table, column: str) -> tuple[str, ...] | None:
    texts = tuple(text for _, cells in table.rows if isinstance(text := cells.get(column), str))
    return texts if len(texts) == len(table.rows) else None


def _counted(values: Mapping[str, int], what: str) -> str:
    shown = ", ".join(shorten(value, 25) for value in list(values)[:_SHOWN])
    return f"{sum(values.values()):,} {what}" + (f" ({shown})" if shown else "")


def _listed(names: frozenset[str]) -> str:
    return shorten(", ".join(sorted(names)) or "no label", 40)
