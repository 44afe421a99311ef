"""The files of SemEval-2018 Task 1 E-c: *E-c*-train.txt, -dev.txt and -test-gold.txt or -test.txt.

A header names the columns ID, Tweet and one 0/1 column per label; cells are separated by tabs and not quoted.
"""

import dataclasses
from pathlib import Path

from trainer.core.errors import DataError, shorten
from trainer.data.sources.columns import Tables
from trainer.data.sources.errors import RowErrors
from trainer.data.sources.files import describe_folder
from trainer.data.sources.rows import build_splits
from trainer.data.sources.source import Location, SourceData
from trainer.data.sources.tabular import read_delimited

__all__ = ["read", "recognises"]

# Gold first: -test.txt is also the name of the file without labels.
_ENDINGS = {"train": ("-train.txt",), "dev": ("-dev.txt",), "test": ("-test-gold.txt", "-test.txt")}


def recognises(location: Location) -> bool:
    """See `Source`."""
    return location.is_folder and bool(_files(location.path, "train"))


def read(location: Location, errors: RowErrors) -> SourceData:
    """See `Source`."""
    label_names, splits = build_splits(
        Tables(
            by_role={
                role: read_delimited(_file(location.path, role), errors, delimiter="\t", quoted=False)
                for role in _ENDINGS
            },
            config=dataclasses.replace(location.config, text_column="Tweet"),
            label_names=None,
        ),
        errors,
    )
    return SourceData(**describe_folder(location), label_names=label_names, splits=splits)


def _files(folder: Path, role: str) -> list[Path]:
    return [path for ending in _ENDINGS[role] for path in sorted(folder.glob(f"*E-c*{ending}"))]


def _file(folder: Path, role: str) -> Path:
    files = _files(folder, role)
    if not files:
        raise DataError(f"{shorten(folder)} contains no file for {role}: *E-c*{_ENDINGS[role][0]} is missing.")
    return files[0]
