"""Data sets of the Hugging Face hub, and folders in the hub's layout, read with `datasets.load_dataset`."""

import os
import re
from pathlib import Path
from typing import Any

from trainer.core.errors import DataError, shorten
from trainer.data.dataset import ROLES
from trainer.data.sources.columns import Tables, find_label_column
from trainer.data.sources.errors import RowErrors
from trainer.data.sources.files import STEMS, describe_folder, has_split_files, read_label_names
from trainer.data.sources.rows import build_splits
from trainer.data.sources.source import NO_LICENCE, Location, SourceData, list_names
from trainer.data.sources.tabular import Table

__all__ = ["read", "recognises"]

_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
_MAX_FOLDERS = 100
_COMMIT = re.compile(r"[0-9a-f]{40}")


def recognises(location: Location) -> bool:
    """See `Source`."""
    if not location.is_folder:
        return _ID.fullmatch(location.config.dataset) is not None
    return not has_split_files(location.path) and _has_parquet(location.path)


def read(location: Location, errors: RowErrors) -> SourceData:
    """See `Source`. Label names come from the ClassLabel feature where the column has one."""
    config = location.config
    path, _, config_name = config.dataset.partition(":")
    if location.is_folder:
        path, config_name = str(location.path), location.config_name or ""
    splits = _load(path, config_name or None, config.dataset_revision or None)
    parts = _part_per_role(splits, path)
    train = splits[parts["train"]]
    label_column = find_label_column(train.column_names, config)
    names = None if label_column is None else _class_names(train.features[label_column])
    if names is None and location.is_folder:
        names = read_label_names(location.path)
    label_names, by_role = build_splits(
        Tables(
            by_role={role: _table(splits[part], f"{path}/{part}") for role, part in parts.items()},
            config=config,
            label_names=names,
        ),
        errors,
    )
    revision = "" if location.is_folder else _revision(train, config.dataset_revision)
    description = describe_folder(location) if location.is_folder else _describe(config.dataset, revision)
    licence = train.info.license or NO_LICENCE
    return SourceData(**description, revision=revision, licence=licence, label_names=label_names, splits=by_role)


def _has_parquet(folder: Path) -> bool:
    """Return True for Parquet files of train in the folder or in one of its folders.

    Deeper ones are not searched, because `datasets` then searches all of the folder, which may be a whole disk.
    """
    paths = [folder / name for name in list_names(folder)]
    folders = [path for path in paths[:_MAX_FOLDERS] if path.is_dir() and os.access(path, os.R_OK)]
    names = [path.name for path in paths] + [f"{one.name}/{name}" for one in folders for name in list_names(one)]
    return any("train" in name and name.endswith(".parquet") for name in names)


def _describe(dataset: str, revision: str) -> dict[str, str]:
    return {"name": dataset, "description": f"{dataset}@{revision}"}


def _load(path: str, config_name: str | None, revision: str | None) -> Any:
    import datasets  # slow: not at module level

    try:
        return datasets.load_dataset(path, config_name, revision=revision)
    except ConnectionError as error:  # before OSError, its base class
        raise DataError(
            f"Cannot reach the Hugging Face hub for {shorten(path)}, and the local cache does not contain it "
            f"({shorten(error)}). Offline, pass a folder with -P dataset=FOLDER, or download the data set once with a "
            "connection and then set HF_HUB_OFFLINE=1."
        ) from error
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"Cannot load {shorten(path)}, config {shorten(config_name or 'default', 30)}, "
            f"revision {shorten(revision or 'main', 40)} ({shorten(error, 60)}). "
            "Write a config as owner/name:config; a local folder must exist."
        ) from error


def _revision(split: Any, requested: str) -> str:
    """Return the commit of a hub data set, which `datasets` names its cache folder by; else what was requested.

    Without a connection, `datasets` reads the newest cached commit, whatever the revision. Raises DataError when a
    commit was requested and that is another one.
    """
    folders = [Path(file["filename"]).parent.name for file in split.cache_files]
    commit = next((name for name in folders if _COMMIT.fullmatch(name)), "")
    if commit and _COMMIT.fullmatch(requested) and commit != requested:
        raise DataError(
            f"Cannot read commit {requested} of the data set without a connection: the local cache contains {commit}. "
            "Download it once with a connection, or change dataset_revision."
        )
    return commit or requested or "main"


def _part_per_role(splits: Any, path: str) -> dict[str, str]:
    parts = {role: next((stem for stem in STEMS[role] if stem in splits), None) for role in ROLES}
    missing = [role for role, part in parts.items() if part is None]
    if missing:
        raise DataError(
            f"{shorten(path)} has no split for {', '.join(missing)}, only {shorten(', '.join(sorted(splits)), 60)}. "
            "A data set needs train, validation and test: make the splits in a folder and give -P dataset=FOLDER."
        )
    return {role: part for role, part in parts.items() if part is not None}


def _table(split: Any, name: str) -> Table:
    columns = tuple(split.column_names)
    try:
        values = split[:]
    except UnicodeDecodeError as error:
        raise DataError(f"{shorten(name)} has a string that is not UTF-8 ({error}).") from error
    rows = zip(*(values[column] for column in columns), strict=True)
    return Table(
        file=name,
        columns=columns,
        rows=[(line, dict(zip(columns, row, strict=True))) for line, row in enumerate(rows, start=1)],
    )


def _class_names(feature: Any) -> tuple[str, ...] | None:
    inner = getattr(feature, "feature", feature)  # a list of ClassLabel names them one level down
    names = getattr(inner, "names", None)
    return None if names is None else tuple(names)
