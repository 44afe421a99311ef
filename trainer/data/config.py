"""Settings of the data set: what to read and how much of it."""

from dataclasses import dataclass
from typing import Literal

from trainer.core.errors import SettingsError

__all__ = ["DataConfig"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the examples come from and how they are cut to length."""

    dataset: str = "starter"
    """Data set: `starter`, a folder with train, dev and test files, or a hub id `owner/name` or `owner/name:config`."""

    dataset_revision: str = ""
    """Branch, tag or commit of a hub data set; empty is its main branch. A local data set has none."""

    text_column: str = "text"
    """Name of the column that holds the text, in files that name their columns."""

    label_column: str = "labels"
    """Name of the column that holds the labels; files without it need one 0/1 column per label."""

    max_length: int = 128
    """Pieces per text, special ones included; at least 4. Longer texts are cut at the end."""

    overlap: Literal["drop", "keep"] = "drop"
    """What happens to train rows whose text also stands in dev or test: left out, or kept and only reported."""

    max_train_rows: int = 0
    """Rows of train to use, for quick trials; 0 is all. A seeded random sample that holds every label at least once."""

    def __post_init__(self) -> None:
        for field in ("dataset", "text_column", "label_column"):
            if not getattr(self, field).strip():
                raise SettingsError(f"{field} must not be empty, but got {field}={getattr(self, field)!r}.")
        if self.text_column == self.label_column:
            raise SettingsError(
                f"text_column and label_column must differ, but got {self.text_column=}, {self.label_column=}."
            )
        if self.max_length < 4:
            raise SettingsError(f"max_length must be at least 4 pieces, but got {self.max_length=}.")
        if self.overlap not in ("drop", "keep"):
            raise SettingsError(f"overlap must be one of drop, keep, but got {self.overlap=}.")
        if self.max_train_rows < 0:
            raise SettingsError(f"max_train_rows must be 0 (all) or more, but got {self.max_train_rows=}.")
        if self.dataset_revision and self.dataset == "starter":
            raise SettingsError(
                f"dataset_revision must be empty for the starter data set, but got {self.dataset_revision=}. "
                "Only hub data sets have revisions."
            )
