"""Data sources: one module per kind of data set, and `load`, which reads the one that the settings name.

A new kind is a module with `recognises` and `read` (see `Source`) and an entry of SOURCES.
"""

import dataclasses
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.core.data_files import SUFFIXES
from trainer.core.errors import DataError, SettingsError, shorten
from trainer.core.input_files import is_file, is_folder, show_path
from trainer.core.settings import quote
from trainer.data.config import DataConfig
from trainer.data.dataset import ROLES, Dataset, Split, positives
from trainer.data.folds import assign_folds, hold_out, pool
from trainer.data.inspection import inspect_train
from trainer.data.overlap import find_leaks, find_overlap
from trainer.data.sampling import sample_examples
from trainer.data.sources import files, goemotions, hub, semeval2018, starter
from trainer.data.sources.errors import RowErrors
from trainer.data.sources.source import Source, SourceData, list_names, locate

__all__ = ["SOURCES", "STARTER", "LoadedSplit", "load", "load_folds", "load_split"]

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

    With `fold`, dev is that fold of train and dev together, and train the others.
    seed: of the folds and of the sample that max_train_rows takes; nothing else is random. with_dev: train on dev too,
    except for the examples of dev whose text is in test.
    Raises SettingsError, or DataError for missing, damaged or unfit data: every faulty row is counted and the first ten
    are named.
    """
    data, warnings = _read(config)
    return _dataset(data, warnings, config, seed=seed, with_dev=with_dev)


def load_folds(config: DataConfig, *, seed: int) -> Iterator[Dataset]:
    """Yield the data set with the splits of its source, then with each fold held out, as `load`; it is read once."""
    data, warnings = _read(config)
    yield _dataset(data, warnings, dataclasses.replace(config, folds=0), seed=seed)
    for fold in range(1, config.folds + 1):
        yield _dataset(data, warnings, dataclasses.replace(config, fold=fold), seed=seed)


def _dataset(
    data: SourceData, warnings: Sequence[str], config: DataConfig, *, seed: int, with_dev: bool = False
) -> Dataset:
    train, dev, test = (data.splits[role] for role in ROLES)
    if config.fold:
        train, dev = _hold_out(train, dev, data.label_names, config, seed)
    whole = train
    overlap = find_overlap(train, dev, test)
    added = dev if with_dev else None
    if config.overlap == "drop":
        train, dropped = _without_leaks(train, dev, test)
        if added is not None:
            added, dropped_of_dev = _without_leaks(added, test)
            dropped += dropped_of_dev
        overlap = dataclasses.replace(overlap, dropped=dropped)
        _check_dropping(data.label_names, whole, train)
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
        fold=f"{config.fold} of {config.folds}" if config.fold else "",
        warnings=(*warnings, *inspect_train(train)),
    )
    if config.overlap == "drop":
        return dataset
    left = find_overlap(dataset.trained_on, dev, test)  # after sampling, which removes leaks too
    overlap = dataclasses.replace(overlap, dev_left=left.dev_normalised, test_left=left.test_normalised)
    return dataclasses.replace(dataset, overlap=overlap)


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedSplit:
    """One split of a data set, for an evaluation."""

    name: str
    source: str
    revision: str
    licence: str
    label_names: tuple[str, ...]
    split: Split
    warnings: tuple[str, ...]


def load_split(config: DataConfig, role: str) -> LoadedSplit:
    """Return one split of the data set that the settings name: a data set as `load` reads it, or one labelled file.

    A folder may lack the other splits. Nothing is dropped. Raises SettingsError or DataError as `load`.
    """
    path = Path(config.dataset).expanduser()
    alone = path if is_file(path) else files.only_file(path, role) if is_folder(path) else None
    if alone is None:
        data, warnings = _read(config)
    elif alone.suffix.lower() in SUFFIXES:
        errors = RowErrors(config.dataset)
        data = files.read_split(alone, role, config, errors)
        errors.raise_if_any()
        warnings = errors.warnings
    else:
        raise DataError(
            f"`dataset` must be a folder or a file ending in {', '.join(SUFFIXES)}, got {show_path(alone)}."
        )
    facts = {name: getattr(data, name) for name in ("name", "revision", "licence", "label_names")}
    return LoadedSplit(**facts, source=data.description, split=data.splits[role], warnings=tuple(warnings))


def _read(config: DataConfig) -> tuple[SourceData, list[str]]:
    location = locate(config)
    source = next((source for source in SOURCES.values() if source.recognises(location)), None)
    if source is None:
        raise DataError(
            f"`dataset` must be {STARTER}, an existing folder, or a hub id like owner/name or owner/name:config, "
            f"got {shorten(config.dataset, 60)}. {_suggestion(config.dataset)}"
        )
    if location.is_folder and config.dataset_revision:
        raise SettingsError(
            f"`dataset_revision` must be empty for a local folder, got {quote(config.dataset_revision)}."
        )
    errors = RowErrors(config.dataset)
    data = source.read(location, errors)
    errors.raise_if_any()
    return data, errors.warnings


def _hold_out(
    train: Split, dev: Split, label_names: tuple[str, ...], config: DataConfig, seed: int
) -> tuple[Split, Split]:
    pooled = pool(train, dev)
    assigned = assign_folds(pooled, config.folds, seed=seed, label_names=label_names, group_column=config.group_column)
    return hold_out(pooled, assigned, config.fold)


def _suggestion(dataset: str) -> str:
    if difflib.get_close_matches(dataset, [STARTER]):
        return f"Did you mean {STARTER}?"
    parent = Path(dataset).expanduser().parent
    if not parent.is_dir():
        return f"The folder {show_path(parent)} does not exist either."
    folders = [name for name in list_names(parent) if (parent / name).is_dir() and not name.startswith(".")]
    return f"Folders in {show_path(parent)}: {shorten(', '.join(folders[:10]) or 'none')}."


def _without_leaks(split: Split, *held_out: Split) -> tuple[Split, int]:
    """Return the examples whose text is in no split held out, and the number of the others."""
    leaks = find_leaks(split, *held_out)
    return (split.take(np.flatnonzero(~leaks)) if leaks.any() else split), int(leaks.sum())


def _check_dropping(label_names: tuple[str, ...], train: Split, kept: Split) -> None:
    """Raise DataError when no example of train is kept, or none of a label that had some."""
    if not len(kept):
        raise DataError(
            f"All {len(train)} examples of train have their text in dev or test too, and overlap=drop removes such "
            "examples from train. Give train other texts, or set overlap=keep to train on them."
        )
    before, after = positives(train), positives(kept)
    lost = [f"{name} ({before[i]})" for i, name in enumerate(label_names) if before[i] and not after[i]]
    if lost:
        raise DataError(
            f"All train examples of these labels have their text in dev or test too, and overlap=drop removes them: "
            f"{shorten(', '.join(lost))}. Add other examples, or set overlap=keep to train on them."
        )
