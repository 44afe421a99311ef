"""The one way to a data set: `load`."""

import dataclasses
import difflib
import re
from pathlib import Path

import numpy as np

from trainer.core.errors import DataError, SettingsError
from trainer.data.config import DataConfig
from trainer.data.dataset import Dataset, OverlapReport, Split
from trainer.data.overlap import find_overlap, sample_examples
from trainer.data.sources.errors import RowErrors
from trainer.data.sources.folder import has_split_files, read_folder
from trainer.data.sources.hub import read_hub
from trainer.data.sources.rows import RawDataset, build_splits

__all__ = ["STARTER", "load"]

STARTER = "starter"
"""Name of the data set that ships with the project."""

_STARTER_FOLDER = Path(__file__).parents[1] / "starter"
_STARTER_LICENCE = "Apache-2.0"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


def load(config: DataConfig, *, seed: int, with_dev: bool = False) -> Dataset:
    """Return the data set that the settings name, checked, with leaks into train dropped or kept as they say.

    seed: chooses the rows when max_train_rows asks for a sample; nothing else is random. with_dev: train on dev too,
    but for the rows of dev that are leaks from test.
    Raises DataError (missing, damaged or unfit data: every faulty row counted, the first ten named) and SettingsError.
    """
    errors = RowErrors(config.dataset)
    name, source, raw = _read(config, errors)
    label_names, splits = build_splits(raw, errors)
    train, overlap = _without_leaks(splits["train"], splits["dev"], splits["test"], drop=config.overlap == "drop")
    if 0 < config.max_train_rows < len(train):
        train = train.take(sample_examples(train.labels, config.max_train_rows, seed=seed))
    added = None
    if with_dev:
        added, from_test = _without_leaks(splits["dev"], splits["test"], splits["test"], drop=config.overlap == "drop")
        overlap = dataclasses.replace(overlap, dropped=overlap.dropped + from_test.dropped)
    dataset = Dataset(
        name=name,
        label_names=label_names,
        train=train,
        dev=splits["dev"],
        test=splits["test"],
        source=source,
        licence=raw.licence,
        overlap=overlap,
        added=added,
    )
    if config.overlap == "drop":
        return dataset
    left, _ = find_overlap(dataset.trained_on, dataset.dev, dataset.test)
    overlap = dataclasses.replace(overlap, dev_left=left.dev_normalised, test_left=left.test_normalised)
    return dataclasses.replace(dataset, overlap=overlap)


def _read(config: DataConfig, errors: RowErrors) -> tuple[str, str, RawDataset]:
    columns = (config.text_column, config.label_column)
    if config.dataset == STARTER:
        raw = read_folder(_STARTER_FOLDER, *columns, errors)
        return STARTER, STARTER, dataclasses.replace(raw, licence=_STARTER_LICENCE)
    folder, config_name = _local_folder(config.dataset)
    if folder is None:
        return _read_hub_id(config)
    if config.dataset_revision:
        raise SettingsError(
            f"dataset_revision must be empty for a local folder, but got {config.dataset_revision=}, {config.dataset=}."
        )
    if not has_split_files(folder) and any(folder.rglob("*.parquet")):
        raw = read_hub(str(folder), config_name, None, *columns)
    else:
        raw = read_folder(folder, *columns, errors)
    return folder.resolve().name, config.dataset, raw


def _read_hub_id(config: DataConfig) -> tuple[str, str, RawDataset]:
    if not _HUB_ID.fullmatch(config.dataset):
        raise DataError(
            f"dataset must be `{STARTER}`, an existing folder, or a hub id like owner/name or owner/name:config, "
            f"but got {config.dataset=}. {_what_exists(config.dataset)}"
        )
    path, _, config_name = config.dataset.partition(":")
    raw = read_hub(path, config_name or None, config.dataset_revision or None, config.text_column, config.label_column)
    return config.dataset, f"{config.dataset}@{config.dataset_revision or 'main'}", raw


def _local_folder(dataset: str) -> tuple[Path | None, str | None]:
    """Return the folder that exists, and the config name after a colon where the folder has the hub's layout."""
    for text, config_name in ((dataset, None), dataset.rpartition(":")[::2]):
        path = Path(text).expanduser()
        if text and path.is_dir():
            return path, config_name
        if text and path.exists():
            raise DataError(f"dataset must be a folder with train, dev and test files, but got the file {dataset=}.")
    return None, None


def _what_exists(dataset: str) -> str:
    if difflib.get_close_matches(dataset, [STARTER]):
        return f"Did you mean {STARTER}?"
    parent = Path(dataset).expanduser().parent
    if not parent.is_dir():
        return f"There is no folder {str(parent)!r} either."
    beside = sorted(path.name for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    return f"Folders in {str(parent)!r}: {', '.join(beside[:10]) or 'none'}."


def _without_leaks(train: Split, dev: Split, test: Split, *, drop: bool) -> tuple[Split, OverlapReport]:
    report, leaked = find_overlap(train, dev, test)
    if not drop or not leaked.any():
        return train, report
    return train.take(np.flatnonzero(~leaked)), dataclasses.replace(report, dropped=int(leaked.sum()))
