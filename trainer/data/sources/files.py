"""Folders with one file per split that names its columns: .csv, .tsv, .jsonl or .parquet."""

from pathlib import Path

from trainer.core.errors import DataError
from trainer.data.dataset import ROLES
from trainer.data.sources.errors import RowErrors
from trainer.data.sources.rows import Tables, build_splits
from trainer.data.sources.source import Location, SourceData
from trainer.data.sources.tabular import SUFFIXES, read_table

__all__ = ["STEMS", "describe_folder", "file_per_role", "has_split_files", "read", "read_label_names", "recognises"]

STEMS = {"train": ("train",), "dev": ("dev", "validation", "val", "valid"), "test": ("test",)}
"""Names of files, and of hub splits, by role."""

_LABEL_FILES = ("labels.txt", "emotions.txt")  # the second is GoEmotions' own


def recognises(location: Location) -> bool:
    """See `Source`. Every folder is recognised, so that `read` can report what it lacks."""
    return location.is_folder


def read(location: Location, errors: RowErrors) -> SourceData:
    """See `Source`. The order of labels is that of labels.txt, where there is one."""
    label_names, splits = build_splits(
        Tables(
            by_role={role: read_table(path, errors) for role, path in file_per_role(location.path).items()},
            text_column=location.config.text_column,
            label_column=location.config.label_column,
            label_names=read_label_names(location.path),
        ),
        errors,
    )
    return SourceData(**describe_folder(location), label_names=label_names, splits=splits)


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
        present = sorted(path.name for path in folder.iterdir())[:20]
        raise DataError(
            f"{folder} contains no file for {', '.join(missing)}, only {', '.join(present) or 'nothing'}. "
            f"A data set needs a file for each of train, dev (or validation, val) and test ({', '.join(SUFFIXES)})."
        )
    for role, paths in files.items():
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise DataError(f"{folder} contains several files for {role}: {names}. Keep one of them.")
    return {role: files[role][0] for role in ROLES}


def read_label_names(folder: Path) -> tuple[str, ...] | None:
    """Return the labels listed in labels.txt or emotions.txt, one a line; None where there is no list."""
    path = next((folder / name for name in _LABEL_FILES if (folder / name).is_file()), None)
    if path is None:
        return None
    try:
        # utf-8-sig: editors on Windows begin UTF-8 files with a byte order mark.
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be UTF-8 ({error}).") from error
    # `|` and comma separate the labels of a cell.
    if not names or len(set(names)) != len(names) or any("|" in name or "," in name for name in names):
        raise DataError(
            f"{path} must list distinct labels without `|` and comma, one a line, got {', '.join(names) or 'none'}."
        )
    return names


def _split_files(folder: Path, role: str) -> list[Path]:
    candidates = [folder / f"{stem}{suffix}" for stem in STEMS[role] for suffix in SUFFIXES]
    return [path for path in candidates if path.is_file()]
