"""Local folders: which file is which split, and which of the known layouts they follow."""

from pathlib import Path

from trainer.core.errors import DataError
from trainer.data.dataset import ROLES
from trainer.data.sources.errors import RowErrors
from trainer.data.sources.rows import RawDataset
from trainer.data.sources.tabular import SUFFIXES, Table, read_delimited, read_table

__all__ = ["STEMS", "has_split_files", "read_folder"]

STEMS = {"train": ("train",), "dev": ("dev", "validation", "val", "valid"), "test": ("test",)}
"""Names that files (and hub splits) go by."""

_LABEL_FILES = ("labels.txt", "emotions.txt")
_SEMEVAL = {"train": ("-train.txt",), "dev": ("-dev.txt",), "test": ("-test-gold.txt", "-test.txt")}
_SEMEVAL_TEXT = "Tweet"


def has_split_files(folder: Path) -> bool:
    """Return whether a file of the folder is named like a split."""
    return any(_split_files(folder, role) for role in ROLES) or _is_semeval(folder)


def read_folder(folder: Path, text_column: str, label_column: str, errors: RowErrors) -> RawDataset:
    """Return the three tables of a folder and its list of labels.

    Layouts: official GoEmotions (train.tsv, dev.tsv, test.tsv without header, labels.txt or emotions.txt); SemEval-2018
    E-c (*-train.txt and so on); or files train, dev|validation|val and test of .csv, .tsv, .jsonl or .parquet that name
    their columns. Raises DataError when a split or the list of labels is missing; faulty rows go to `errors`.
    """
    if _is_semeval(folder):
        paths = _semeval_files(folder)
        tables = {role: read_delimited(paths[role], errors, delimiter="\t", quoted=False) for role in ROLES}
        return RawDataset(tables=tables, text_column=_SEMEVAL_TEXT, label_column=label_column, label_names=None)
    paths = _one_file_per_role(folder)
    label_names = _read_label_names(folder)
    official = paths["train"].suffix == ".tsv" and not _has_header(paths["train"], text_column)
    if official and label_names is None:
        raise DataError(
            f"folder must have labels.txt or emotions.txt beside train.tsv, but got neither in folder={str(folder)!r}. "
            f"(train.tsv has no column {text_column!r}, so it is read as text, label ids, comment id.)"
        )
    header = (text_column, label_column, "id") if official else None
    return RawDataset(
        tables={role: _read(path, errors, header) for role, path in paths.items()},
        text_column=text_column,
        label_column=label_column,
        label_names=label_names,
        needs_label=official,
    )


def _read(path: Path, errors: RowErrors, header: tuple[str, ...] | None) -> Table:
    if header is None:
        return read_table(path, errors)
    return read_delimited(path, errors, delimiter="\t", header=header)


def _has_header(path: Path, text_column: str) -> bool:
    with path.open("rb") as file:
        first = file.readline().decode("utf-8-sig", errors="replace")
    return text_column in [cell.strip().strip('"') for cell in first.split("\t")]


def _split_files(folder: Path, role: str) -> list[Path]:
    candidates = [folder / f"{stem}{suffix}" for stem in STEMS[role] for suffix in SUFFIXES]
    return [path for path in candidates if path.is_file()]


def _one_file_per_role(folder: Path) -> dict[str, Path]:
    found = {role: _split_files(folder, role) for role in ROLES}
    missing = [role for role in ROLES if not found[role]]
    if missing:
        present = sorted(path.name for path in folder.iterdir())[:20]
        raise DataError(
            f"folder must have a file for each of train, dev (or validation, val) and test ({', '.join(SUFFIXES)}), "
            f"but got none for {', '.join(missing)} in folder={str(folder)!r}, which has {present}."
        )
    for role, paths in found.items():
        if len(paths) > 1:
            names = [path.name for path in paths]
            raise DataError(f"folder must have one file for {role}, but got {names} in folder={str(folder)!r}.")
    return {role: found[role][0] for role in ROLES}


def _is_semeval(folder: Path) -> bool:
    return any(folder.glob("*E-c*-train.txt"))


def _semeval_files(folder: Path) -> dict[str, Path]:
    paths = {}
    for role, endings in _SEMEVAL.items():
        found = [path for ending in endings for path in sorted(folder.glob(f"*E-c*{ending}"))]
        if not found:
            raise DataError(
                f"folder must have a *{endings[0]} file for {role}, but got none in folder={str(folder)!r}."
            )
        paths[role] = found[0]
    return paths


def _read_label_names(folder: Path) -> tuple[str, ...] | None:
    path = next((folder / name for name in _LABEL_FILES if (folder / name).is_file()), None)
    if path is None:
        return None
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise DataError(f"list of labels must be UTF-8, but got file={str(path)!r} ({error}).") from error
    if not names or len(set(names)) != len(names) or any("|" in name or "," in name for name in names):
        raise DataError(
            f"list of labels must have distinct names, one a line and without | or comma, but got {names=} "
            f"in file={str(path)!r}."
        )
    return names
