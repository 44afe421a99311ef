"""Settings of the data set: what to read and how much of it."""

from dataclasses import dataclass
from typing import Literal

from trainer.core.errors import SettingsError
from trainer.core.settings import quote, require

__all__ = ["AUTO", "DataConfig"]

AUTO = "auto"
"""Value of label_separator for the separators that a cell has."""

_MAX_TOKENS = 100_000
_MAX_FOLDS = 20


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the examples come from and how long they may be."""

    dataset: str = "starter"
    """Data set: `starter`, a folder with train, dev and test files, or a hub id `owner/name` or `owner/name:config`."""

    dataset_revision: str = ""
    """Branch, tag or commit of a hub data set; empty is its main branch. A local data set has none."""

    text_column: str = "text"
    """Name of the column of texts, in files that name their columns."""

    label_column: str = "labels"
    """Name of the column of labels (default: `labels`, or else `label`); files without it need one column per label
    with values from 0 to 1, in which an empty cell, null or -1 is a label that was not annotated and counts in no loss
    and no metric."""

    label_separator: str = AUTO
    """Text between the labels of a cell; `auto` is `|`, or a comma in a cell without `|`, and with `none` a cell is one
    label."""

    group_column: str = ""
    """Name of a column whose equal cells group examples, such as a dialogue, title or author: folds keep groups whole.
    An example with an empty cell is a group of its own."""

    keep_columns: str = ""
    """Names of further columns, separated by commas, that are kept with the predictions, for scores per slice."""

    folds: int = 0
    """Folds for cross-validation; 0 = none. Train and dev together are divided into so many parts with about as many
    positives of every label; equal texts and groups stay whole, and test stays as it is. Each fold is held out as dev
    once, in a run of its own below a run that keeps the predictions of all."""

    fold: int = 0
    """Train only the run that holds out this fold, from 1 to `folds`; 0 = all, one after another."""

    max_length: int = 128
    """Tokens per text, special ones included; at least 4. Longer texts are truncated at the end."""

    overlap: Literal["drop", "keep"] = "drop"
    """Train examples whose text is also in dev or test: `drop` them from train, or `keep` and report them."""

    max_train_rows: int = 0
    """Train examples to use, for quick trials; 0 is all. A seeded random sample with every label at least once."""

    def __post_init__(self) -> None:
        for name in ("dataset", "text_column", "label_column"):
            require(name, getattr(self, name), bool(getattr(self, name).strip()), "not be empty")
        if self.text_column == self.label_column:
            raise SettingsError(
                f"`text_column` and `label_column` must differ, got {quote(self.text_column)} for both."
            )
        for name in self.kept_columns:
            setting = "group_column" if name == self.group_column else "keep_columns"
            is_other = name not in (self.text_column, self.label_column)
            require(setting, getattr(self, setting), is_other, "name other columns than those of texts and labels")
        require("label_separator", self.label_separator, bool(self.label_separator), "not be empty")
        is_free = not self.folds or "fold" not in self.kept_columns
        require("keep_columns", self.keep_columns, is_free, "not name a column `fold`, which is that of the folds")
        require("folds", self.folds, self.folds in (0, *range(2, _MAX_FOLDS + 1)), f"be 0 or in [2, {_MAX_FOLDS}]")
        require("fold", self.fold, 0 <= self.fold <= self.folds, f"be in [0, {self.folds}], the value of `folds`")
        require("max_length", self.max_length, 4 <= self.max_length <= _MAX_TOKENS, f"be in [4, {_MAX_TOKENS}]")
        require("overlap", self.overlap, self.overlap in ("drop", "keep"), "be drop or keep")
        require("max_train_rows", self.max_train_rows, 0 <= self.max_train_rows <= 10**9, "be in [0, 10^9]; 0 is all")
        if self.dataset_revision and self.dataset == "starter":
            raise SettingsError(
                f"`dataset_revision` must be empty for the starter data set, got {quote(self.dataset_revision)}. "
                "Only hub data sets have revisions."
            )

    @property
    def kept_columns(self) -> tuple[str, ...]:
        """The columns that are kept, without repetitions: the group column first, then those of keep_columns."""
        names = [self.group_column, *(name.strip() for name in self.keep_columns.split(","))]
        return tuple(dict.fromkeys(name for name in names if name))
