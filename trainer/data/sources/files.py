"""Folders with one file per split that names its columns: CSV, TSV, JSON Lines or Parquet."""

from collections import Counter
from pathlib import Path

from trainer.core.data_files import SUFFIXES
from trainer.core.errors import DataError, shorten
from trainer.core.input_files import read_text, show_path
from trainer.data.config import DataConfig
from trainer.data.dataset import ROLES
from trainer.data.sources.columns import Tables
from trainer.data.sources.errors import RowErrors
from trainer.data.sources.rows import build_splits
from trainer.data.sources.source import Location, SourceData, list_names
from trainer.data.sources.tabular import read_table

__all__ = [
    "STEMS",
    "describe_folder",
    "file_per_role",
    "has_split_files",
    "only_file",
    "read",
    "read_label_names",
    "read_split",
    "recognises",
]

STEMS = {"train": ("train",), "dev": ("dev", "validation", "val", "valid"), "test": ("test",)}
"""Names of files, and of hub splits, by role."""

_MAX_SHOWN, _MAX_NAME = 5, 25
_MAX_LABEL_BYTES = 2**20
_LABEL_FILES = ("labels.txt", "emotions.txt")  # the second is GoEmotions' own


def recognises(location: Location) -> bool:
    """See `Source`. Every folder is recognised, so that `read` can report what it lacks."""
    return location.is_folder


def read(location: Location, errors: RowErrors) -> SourceData:
    """See `Source`. The order of labels is that of labels.txt, where there is one."""
    paths = file_per_role(location.path)
    label_names, splits = build_splits(
        Tables(
            by_role={role: read_table(path, errors) for role, path in paths.items()},
            config=location.config,
            label_names=read_label_names(location.path),
        ),
        errors,
    )
    return SourceData(**describe_folder(location), label_names=label_names, splits=splits)


def read_split(path: Path, role: str, config: DataConfig, errors: RowErrors) -> SourceData:
    """Return a data set of one file, with the labels of a labels.txt beside it or those that occur in it."""
    label_names, splits = build_splits(
        Tables(by_role={role: read_table(path, errors)}, config=config, label_names=read_label_names(path.parent)),
        errors,
    )
    return SourceData(name=path.stem, description=str(path), label_names=label_names, splits=splits)


def only_file(folder: Path, role: str) -> Path | None:
    """Return the file of a role in a folder that lacks that of another; None where it has all, or not this one."""
    is_complete = all(_split_files(folder, other) for other in ROLES)
    found = [] if is_complete else _split_files(folder, role)
    return found[0] if len(found) == 1 else None


def describe_folder(location: Location) -> dict[str, str]:
    """Return name and description of a local data set."""
    return {"name": location.path.resolve().name, "description": location.config.dataset}  # `.` has no name


def has_split_files(folder: Path) -> bool:
    """Return True when a file of the folder has the name of a split."""
    return any(_split_files(folder, role) for role in ROLES)


def file_per_role(folder: Path) -> dict[str, Path]:
    """Return the file of each role. Raises DataError when there is none or more than one."""
    files = {role: _split_files(folder, role) for role in ROLES}
    missing = [role for role in ROLES if not files[role]]
    if missing:
        present = ", ".join(shorten(name, _MAX_NAME) for name in list_names(folder)[:_MAX_SHOWN])
        raise DataError(
            f"{shorten(folder)} contains no file for {', '.join(missing)}, only {present or 'nothing'}. A data set "
            "needs train, dev (or validation, val) and test, each as CSV, TSV, JSON Lines or Parquet. Rename them, "
            "or split one as docs/tutorials/own-data.md shows."
        )
    for role, paths in files.items():
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise DataError(f"{shorten(folder)} contains several files for {role}: {names}. Keep one of them.")
    return {role: files[role][0] for role in ROLES}


def read_label_names(folder: Path) -> tuple[str, ...] | None:
    """Return the labels listed in labels.txt or emotions.txt, one a line; None where there is no list."""
    path = next((folder / name for name in _LABEL_FILES if (folder / name).is_file()), None)
    if path is None:
        return None
    try:
        names = tuple(line.strip() for line in read_text(path, _MAX_LABEL_BYTES).splitlines() if line.strip())
    except ValueError as error:
        raise DataError(f"Cannot read {show_path(path)}: {error}.") from error
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if not names or repeated:
        raise DataError(
            f"{shorten(path)} must list distinct labels, one a line, got {shorten(', '.join(repeated) or 'none')}."
        )
    return names


def _split_files(folder: Path, role: str) -> list[Path]:
    paths = [folder / name for name in list_names(folder)]
    return [path for path in paths if path.stem in STEMS[role] and path.suffix.lower() in SUFFIXES]
