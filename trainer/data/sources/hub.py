"""Data sets of the Hugging Face hub, and folders in the hub's layout, through `datasets.load_dataset`."""

from typing import Any

from trainer.core.errors import DataError
from trainer.data.dataset import ROLES
from trainer.data.sources.folder import STEMS
from trainer.data.sources.rows import NOT_STATED, RawDataset
from trainer.data.sources.tabular import Table

__all__ = ["read_hub"]


def read_hub(
    path: str, config_name: str | None, revision: str | None, text_column: str, label_column: str
) -> RawDataset:
    """Return the tables of a hub data set. path: hub id, or a local folder in hub layout.

    Label names come from the ClassLabel feature where the column has one.
    Raises DataError when it cannot be had (offline without a cached copy, unknown id or config) or lacks a split.
    """
    splits = _load(path, config_name, revision)
    chosen = {role: next((stem for stem in STEMS[role] if stem in splits), None) for role in ROLES}
    missing = [role for role, stem in chosen.items() if stem is None]
    if missing:
        raise DataError(
            f"hub data set must have the splits train, validation and test, but got {sorted(splits)} in {path=}, "
            f"none for {', '.join(missing)}. Make the splits yourself and pass their folder with -P dataset=<folder>."
        )
    train = splits[chosen["train"]]
    return RawDataset(
        tables={role: _table(splits[stem], f"{path}/{stem}") for role, stem in chosen.items()},
        text_column=text_column,
        label_column=label_column,
        label_names=_class_names(train.features.get(label_column)),
        licence=train.info.license or NOT_STATED,
    )


def _load(path: str, config_name: str | None, revision: str | None) -> Any:
    import datasets  # slow: not at module level

    try:
        return datasets.load_dataset(path, config_name, revision=revision)
    except ConnectionError as error:
        raise DataError(
            f"hub data set must be reachable or in the local cache, but got dataset={path!r} ({error}). "
            "Offline, pass a folder with -P dataset=<folder>; or download it once with a connection, and then set "
            "HF_HUB_OFFLINE=1."
        ) from error
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"hub data set must exist and load, but got dataset={path!r}, {config_name=}, {revision=} ({error}). "
            "Write a config as owner/name:config; a local folder must exist."
        ) from error


def _table(split: Any, name: str) -> Table:
    columns = tuple(split.column_names)
    values = split[:]
    rows = zip(*(values[column] for column in columns), strict=True)
    return Table(
        file=name,
        columns=columns,
        rows=[(line, dict(zip(columns, row, strict=True))) for line, row in enumerate(rows, start=1)],
    )


def _class_names(feature: Any) -> tuple[str, ...] | None:
    inner = getattr(feature, "feature", feature)
    names = getattr(inner, "names", None)
    return None if names is None else tuple(names)
