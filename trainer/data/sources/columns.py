"""Finds the columns of texts, labels and ids in the tables of a data set."""

import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from trainer.core.data_files import check_columns
from trainer.core.errors import DataError, nearest, shorten
from trainer.data.config import DataConfig
from trainer.data.sources.cells import read_indicators
from trainer.data.sources.errors import RowErrors
from trainer.data.sources.tabular import Table

__all__ = ["ANSWER", "ID_COLUMNS", "Columns", "Tables", "find_columns", "find_label_column"]

ANSWER = "answer"
"""Column in which Prodigy keeps whether an annotation was accepted."""

ID_COLUMNS = ("id", "row_id", "comment_id")
_OTHER_LABEL_COLUMN = "label"  # the usual name on the hub, tried where the default of label_column is absent
_UNNAMED = re.compile(r"(Unnamed: \d+)?")  # pandas writes its index without a name, and reads it with this one
_MAX_SHOWN = 10
_MAX_TRIED = 1000


@dataclass(frozen=True, kw_only=True)
class Tables:
    """A table per role and what the source states about its columns and labels."""

    by_role: Mapping[str, Table]
    config: DataConfig
    label_names: tuple[str, ...] | None
    """In the order of their ids; None where the source lists none."""
    needs_label: bool = False
    """Whether the format forbids examples without any label."""

    @property
    def reference(self) -> str:
        """The role whose labels the others must have: train, or the only one."""
        return "train" if "train" in self.by_role else next(iter(self.by_role))


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of one table that are read."""

    text: str
    label: str | None
    indicators: tuple[str, ...]
    """One column per label, with values in [0, 1], where there is no label column."""
    example_id: str | None
    kept: tuple[str, ...]
    """The columns of group_column and keep_columns."""


def find_columns(tables: Tables, errors: RowErrors) -> dict[str, Columns]:
    """Return the columns of each role. Raises DataError for columns that are missing, differ, or are no labels."""
    by_role = {role: _find(table, tables, errors) for role, table in tables.by_role.items()}
    train = set(by_role[tables.reference].indicators)
    for role, columns in by_role.items():
        other = set(columns.indicators)
        if train != other:
            raise DataError(
                "Splits must have the same labels, got "
                f"{_shown(sorted(train - other)) or 'none'} only in train and "
                f"{_shown(sorted(other - train)) or 'none'} only in {role}."
            )
    if tables.label_names is None:
        _check_indicators(tables.by_role[tables.reference], by_role[tables.reference].indicators)
    return by_role


def find_label_column(
    columns: Collection[str], config: DataConfig, label_names: Sequence[str] | None = None
) -> str | None:
    """Return the column of labels; None where each label has a column.

    Without a column `labels`, the default of label_column, `label` is taken.
    """
    if config.label_column in columns:
        return config.label_column
    each_has_one = label_names is not None and set(label_names) <= set(columns)
    is_default = config.label_column == DataConfig.label_column
    return _OTHER_LABEL_COLUMN if is_default and _OTHER_LABEL_COLUMN in columns and not each_has_one else None


def _find(table: Table, tables: Tables, errors: RowErrors) -> Columns:
    text = tables.config.text_column
    check_columns(table.file, table.columns, text)
    kept = tables.config.kept_columns
    _check_kept(table, tables.config)
    example_id = next((c for name in ID_COLUMNS for c in table.columns if c.casefold() == name), None)  # SemEval: ID
    label = find_label_column(table.columns, tables.config, tables.label_names)
    if label is not None:
        return Columns(text=text, label=label, indicators=(), example_id=example_id, kept=kept)
    unnamed = {column for column in table.columns if _UNNAMED.fullmatch(column)}
    taken = {text, example_id, ANSWER, *unnamed, *(set(kept) - set(tables.label_names or ()))}
    others = tuple(column for column in table.columns if column not in taken)
    indicators = tables.label_names or others
    missing = [name for name in indicators if name not in others]
    if missing or not others or tables.config.label_column != DataConfig.label_column:
        raise DataError(
            f"{shorten(table.file)} has neither a column `{shorten(tables.config.label_column)}` nor one 0/1 column "
            f"per label, got {_shown(table.columns)}"
            + (f"; label columns missing: {_shown(missing)}" if missing else "")
            + ". Name the column of labels with label_column."
        )
    if unnamed:
        errors.warn("A column without a name is not read", table.file)
    return Columns(text=text, label=None, indicators=indicators, example_id=example_id, kept=kept)


def _check_kept(table: Table, config: DataConfig) -> None:
    for name in config.kept_columns:
        if name not in table.columns:
            setting = "group_column" if name == config.group_column else "keep_columns"
            raise DataError(
                f"`{setting}` must name a column of {shorten(table.file, 40)}, got {shorten(name, 40)}."
                f"{nearest(name, table.columns)} Its columns: {_shown(table.columns)}."
            )


def _check_indicators(train: Table, columns: Sequence[str]) -> None:
    """Raise DataError for columns most of whose cells are no values of a label, such as an author or a date."""
    foreign = [name for name in columns if _is_foreign(train, name)]
    if foreign:
        raise DataError(
            f"{shorten(train.file)} has columns that are neither text nor 0/1 labels: {_shown(foreign)}. Remove them, "
            "or list the labels in labels.txt, one a line. If one of them contains the labels, name it with "
            "label_column."
        )


def _is_foreign(table: Table, column: str) -> bool:
    filled = (cells[column] for _, cells in table.rows if cells.get(column) not in (None, ""))
    fit = unfit = 0
    for cell in itertools.islice(filled, _MAX_TRIED):
        try:
            read_indicators({column: cell})
            fit += 1
        except ValueError:
            unfit += 1
    return unfit > fit


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else ""
    return shorten(", ".join(f"`{name}`" for name in names[:_MAX_SHOWN])) + more
