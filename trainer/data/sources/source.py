"""The interface of a data source."""

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainer.core.errors import DataError, shorten
from trainer.data.config import DataConfig
from trainer.data.dataset import Split
from trainer.data.sources.errors import RowErrors

__all__ = ["NO_LICENCE", "Location", "Source", "SourceData", "list_names", "locate"]

NO_LICENCE = "not stated"
"""Licence of a source that names none."""

_MAX_ENTRIES = 10_000


@dataclass(frozen=True, kw_only=True)
class Location:
    """The data set that the settings name."""

    config: DataConfig
    path: Path
    is_folder: bool
    """Whether `path` is a folder on this machine."""
    config_name: str | None = None
    """The text after the colon of `folder:config`."""


@dataclass(frozen=True, kw_only=True)
class SourceData:
    """A data set as its source states it."""

    name: str
    """Short name for people."""
    description: str
    """Folder, or `owner/name:config@revision` of the hub."""
    revision: str = ""
    """Commit of a data set under version control; empty where there is none."""
    licence: str = NO_LICENCE
    label_names: tuple[str, ...]
    """k names, in the order of the columns of `Split.labels` and `Split.observed`."""
    splits: Mapping[str, Split]
    """Role → texts, labels, observed mask and ids."""


class Source(Protocol):
    """A module of this package that reads one kind of data set."""

    def recognises(self, location: Location) -> bool:
        """Return True when the location contains this kind of data set; reads names and first lines only."""

    def read(self, location: Location, errors: RowErrors) -> SourceData:
        """Return the data set. Raises DataError for a fault of the whole, and together for those added to `errors`."""


def locate(config: DataConfig) -> Location:
    """Return the folder that `dataset` names, or the folder before its last colon. Raises DataError for a file."""
    # The whole text first: the name of a folder may contain a colon.
    for text, config_name in ((config.dataset, None), config.dataset.rpartition(":")[::2]):
        path = _path(text)
        if text and path.is_dir():
            return Location(config=config, path=path, is_folder=True, config_name=config_name)
        if text and path.exists():
            raise DataError(
                f"`dataset` must be a folder with train, dev and test, got the file {shorten(config.dataset)}. Split "
                "the file as docs/tutorials/own-data.md shows."
            )
    return Location(config=config, path=Path(config.dataset), is_folder=False)


def list_names(folder: Path) -> list[str]:
    """Return the sorted names in a folder, of at most its first 10,000: data sets have few files."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in itertools.islice(entries, _MAX_ENTRIES))
    except OSError as error:
        raise DataError(f"Cannot list the folder {shorten(folder)} ({error.strerror}).") from error


def _path(text: str) -> Path:
    try:
        path = Path(text).expanduser()
        path.exists()
    # OSError: too long, or not readable. RuntimeError: `~name` of nobody. ValueError: a NUL.
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"`dataset` must be a path or a hub id, got {shorten(text)} ({reason}).") from error
    return path
