"""The official files of GoEmotions: train.tsv, dev.tsv, test.tsv without header, and a list of labels.

A line is `text <TAB> label ids <TAB> comment id`, quoted as in CSV; every example has a label.
"""

from pathlib import Path

from trainer.core.data_files import check_file
from trainer.core.errors import DataError
from trainer.data.sources.columns import Tables
from trainer.data.sources.errors import RowErrors
from trainer.data.sources.files import describe_folder, file_per_role, read_label_names
from trainer.data.sources.rows import build_splits
from trainer.data.sources.source import Location, SourceData
from trainer.data.sources.tabular import read_delimited

__all__ = ["read", "recognises"]

_MAX_HEADER = 2**16


def recognises(location: Location) -> bool:
    """See `Source`."""
    train = location.path / "train.tsv"
    # A train.tsv that names its columns is one for `files`.
    return location.is_folder and train.is_file() and not _has_column(train, location.config.text_column)


def read(location: Location, errors: RowErrors) -> SourceData:
    """See `Source`."""
    config, paths, listed = location.config, file_per_role(location.path), read_label_names(location.path)
    if listed is None:
        raise DataError(
            f"{location.path} contains neither labels.txt nor emotions.txt. train.tsv has no column "
            f"{config.text_column}, so its lines are read as text, label ids, comment id, and the ids need names. "
            "Add the list, or name the column with text_column."
        )
    header = (config.text_column, config.label_column, "id")
    label_names, splits = build_splits(
        Tables(
            by_role={role: read_delimited(path, errors, delimiter="\t", header=header) for role, path in paths.items()},
            config=config,
            label_names=listed,
            needs_label=True,
        ),
        errors,
    )
    return SourceData(**describe_folder(location), label_names=label_names, splits=splits)


def _has_column(path: Path, name: str) -> bool:
    check_file(path)
    with path.open("rb") as file:
        first = file.readline(_MAX_HEADER).decode("utf-8-sig", errors="replace")  # `read` names wrong bytes
    return name in [cell.strip().strip('"') for cell in first.split("\t")]  # a header may be quoted
