"""Data sources: one module per kind of data set, and `load`, which reads the one that the settings name.

A new kind is a module with `recognises` and `read` (see `Source`) and an entry of SOURCES.
"""

import dataclasses
import difflib
from pathlib import Path

import numpy as np

from trainer.core.errors import DataError, SettingsError, shorten
from trainer.data.config import DataConfig
from trainer.data.dataset import ROLES, Dataset, Split
from trainer.data.overlap import find_leaks, find_overlap
from trainer.data.sampling import sample_examples
from trainer.data.sources import files, goemotions, hub, semeval2018, starter
from trainer.data.sources.errors import RowErrors
from trainer.data.sources.source import Source, SourceData, list_names, locate

__all__ = ["SOURCES", "STARTER", "load"]

SOURCES: dict[str, Source] = {
    "starter": starter,
    "semeval2018": semeval2018,
    "goemotions": goemotions,
    "hub": hub,
    "files": files,
}
"""Name → source; the first one that recognises the data set reads it, so `files`, which takes any folder, is last."""

STARTER = starter.NAME
"""Name of the data set that ships with the project."""


def load(config: DataConfig, *, seed: int, with_dev: bool = False) -> Dataset:
    """Return the data set of the settings, checked; train examples whose text is in dev or test are dropped or kept.

    seed: of the sample that max_train_rows takes; nothing else is random. with_dev: train on dev too, except for the
    examples of dev whose text is in test.
    Raises SettingsError, or DataError for missing, damaged or unfit data: every faulty row is counted and the first ten
    are named.
    """
    data = _read(config)
    train, dev, test = (data.splits[role] for role in ROLES)
    overlap = find_overlap(train, dev, test)
    added = dev if with_dev else None
    if config.overlap == "drop":
        train, dropped = _without_leaks(train, dev, test)
        if added is not None:
            added, dropped_of_dev = _without_leaks(added, test)
            dropped += dropped_of_dev
        overlap = dataclasses.replace(overlap, dropped=dropped)
    if 0 < config.max_train_rows < len(train):
        train = train.take(sample_examples(train.labels * train.observed, config.max_train_rows, seed=seed))
    dataset = Dataset(
        name=data.name,
        label_names=data.label_names,
        train=train,
        dev=dev,
        test=test,
        source=data.description,
        revision=data.revision,
        licence=data.licence,
        overlap=overlap,
        added=added,
    )
    if config.overlap == "drop":
        return dataset
    left = find_overlap(dataset.trained_on, dev, test)  # after sampling, which removes leaks too
    overlap = dataclasses.replace(overlap, dev_left=left.dev_normalised, test_left=left.test_normalised)
    return dataclasses.replace(dataset, overlap=overlap)


def _read(config: DataConfig) -> SourceData:
    location = locate(config)
    source = next((source for source in SOURCES.values() if source.recognises(location)), None)
    if source is None:
        raise DataError(
            f"`dataset` must be {STARTER}, an existing folder, or a hub id like owner/name or owner/name:config, "
            f"got {shorten(config.dataset)}. {_suggestion(config.dataset)}"
        )
    if location.is_folder and config.dataset_revision:
        raise SettingsError(f"`dataset_revision` must be empty for a local folder, got {config.dataset_revision}.")
    errors = RowErrors(config.dataset)
    data = source.read(location, errors)
    errors.raise_if_any()
    return data


def _suggestion(dataset: str) -> str:
    if difflib.get_close_matches(dataset, [STARTER]):
        return f"Did you mean {STARTER}?"
    parent = Path(dataset).expanduser().parent
    if not parent.is_dir():
        return f"The folder {shorten(parent)} does not exist either."
    folders = [name for name in list_names(parent) if (parent / name).is_dir() and not name.startswith(".")]
    return f"Folders in {shorten(parent)}: {shorten(', '.join(folders[:10]) or 'none')}."


def _without_leaks(split: Split, *held_out: Split) -> tuple[Split, int]:
    """Return the examples whose text is in no split held out, and the number of the others."""
    leaks = find_leaks(split, *held_out)
    return (split.take(np.flatnonzero(~leaks)) if leaks.any() else split), int(leaks.sum())
