"""Three splits over one list of labels, the form that every source is brought to."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from trainer.core.errors import DataError, shorten

__all__ = ["ROLES", "Dataset", "OverlapReport", "Split", "join_splits", "positives"]

_MAX_NAME = 200
"""Characters of a label: names become columns of tables and texts of figures."""
_UNFIT = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode categories of control characters, halves of characters and line ends."""
_TAKEN = ("labels", "text")
"""Columns that a served model has besides those of its labels."""

ROLES = ("train", "dev", "test")
"""train fits weights; dev stops, calibrates and chooses; test is read once, at the end."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The n examples of one role over k labels, in the order of the source."""

    texts: tuple[str, ...]
    """n texts, none of them blank."""
    labels: npt.NDArray[np.float32]
    """(n, k), each in [0, 1]; 0 where the label is not observed."""
    observed: npt.NDArray[np.bool_]
    """(n, k), false where the label was not annotated: such a cell counts in no loss and no metric."""
    example_ids: tuple[str, ...]
    """n distinct ids."""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of a kept column → its n cells as text; the group column is among them."""

    def __post_init__(self) -> None:
        n = len(self.texts)
        if self.labels.ndim != 2 or len(self.labels) != n or self.observed.shape != self.labels.shape:
            raise DataError(
                f"labels and observed must have the shape (n, k) with n = {n} texts, "
                f"got {self.labels.shape} and {self.observed.shape}."
            )
        if self.labels.dtype != np.float32 or self.observed.dtype != np.bool_:
            raise DataError(
                f"labels must be float32 and observed bool, got {self.labels.dtype} and {self.observed.dtype}."
            )
        if not ((self.labels >= 0) & (self.labels <= 1)).all():
            raise DataError("labels must be in [0, 1], got a value outside, or NaN.")
        for name, cells in self.columns.items():
            if len(cells) != n:
                raise DataError(f"The column {shorten(name)} must have {n} cells, got {len(cells)}.")
        if len(self.example_ids) != n or len(set(self.example_ids)) != n:
            raise DataError(f"example ids must be {n} distinct ones, got {len(set(self.example_ids))}.")
        blank = next((i for i, text in enumerate(self.texts) if not text.strip()), None)
        if blank is not None:
            raise DataError(f"texts must not be blank, but the text of example {self.example_ids[blank]} is.")

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of texts, labels and mask in their order; file format and example ids do not change it."""
        # JSON marks where a text ends, and `<` fixes the byte order: the digest is the same on every machine.
        sha = hashlib.sha256(json.dumps([*self.labels.shape, self.texts]).encode())
        sha.update(np.ascontiguousarray(self.labels, dtype="<f4").tobytes())
        sha.update(np.ascontiguousarray(self.observed).tobytes())
        return sha.hexdigest()

    def take(self, examples: npt.NDArray[np.integer]) -> "Split":
        """Return the split of these examples, in this order. examples: (m,) indices."""
        return Split(
            texts=tuple(self.texts[i] for i in examples),
            labels=self.labels[examples],
            observed=self.observed[examples],
            example_ids=tuple(self.example_ids[i] for i in examples),
            columns={name: tuple(cells[i] for i in examples) for name, cells in self.columns.items()},
        )


@dataclass(frozen=True, kw_only=True)
class OverlapReport:
    """How many examples have a text that is also in another split, counted before any is dropped from train.

    `_exact` counts equal texts; `_normalised` also those that differ in case, width, space and punctuation alone.
    """

    dev_exact: int = 0
    """Examples of dev whose text is in train."""
    dev_normalised: int = 0
    test_exact: int = 0
    """Examples of test whose text is in train."""
    test_normalised: int = 0
    test_in_dev_exact: int = 0
    """Examples of test whose text is in dev, where thresholds are chosen; they are only reported."""
    test_in_dev_normalised: int = 0
    dropped: int = 0
    """Examples that are not trained on because of it."""
    dev_left: int = 0
    """Examples of dev whose normalised text is in train as it is trained on: 0 after dropping."""
    test_left: int = 0
    """As dev_left, for test."""

    @property
    def counts(self) -> dict[str, int]:
        """Normalised counts by pair of splits."""
        return {
            "dev_in_train": self.dev_normalised,
            "test_in_train": self.test_normalised,
            "test_in_dev": self.test_in_dev_normalised,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Three splits that share their labels; every label has an example in train."""

    name: str
    """Short name for people: `starter`, a folder's name or a hub id."""
    label_names: tuple[str, ...]
    """k names, in the order of the columns of `labels`."""
    train: Split
    dev: Split
    test: Split
    source: str
    """Folder, or `owner/name:config@revision` of the hub."""
    revision: str = ""
    """Commit of a hub data set; empty for a local one."""
    licence: str
    """Licence as the source states it."""
    overlap: OverlapReport
    added: Split | None = None
    """Examples of dev that are trained on as well; None = dev is held out."""
    fold: str = ""
    """Which fold of train and dev together is held out as dev, such as `2 of 5`; empty for the splits of the source."""
    warnings: tuple[str, ...] = ()
    """What the user should know of the data; none of it prevents training."""

    def __post_init__(self) -> None:
        k = len(self.label_names)
        _check_label_names(self.label_names)
        for role in ROLES:
            split: Split = getattr(self, role)
            if not len(split):
                raise DataError(f"{self.name} has no example in {role}. Every split needs at least one.")
            if split.labels.shape[1] != k:
                raise DataError(
                    f"{role} must have one column per label, got {split.labels.shape[1]} columns for {k} labels."
                )
        _check_every_label_is_trained(self.label_names, self.train)

    @cached_property
    def trained_on(self) -> Split:
        """The examples that weights are fitted on: train, then those added; their ids begin with their role."""
        if self.added is None:
            return self.train
        return join_splits({"train": self.train, "dev": self.added})

    @property
    def digests(self) -> dict[str, str]:
        """Digest of each split by role, as it was read: examples added to train change none."""
        return {role: getattr(self, role).digest for role in ROLES}

    def facts(self) -> dict[str, object]:
        """Return the contents of dataset.json, JSON values only; `left_in_train` counts examples of splits held out."""
        overlap = vars(self.overlap).copy()
        left = {role: overlap.pop(f"{role}_left") for role in ROLES[1:]}
        if self.added is not None:
            del left["dev"]  # no longer held out
        return {
            "name": self.name,
            "source": self.source,
            "revision": self.revision,
            "licence": self.licence,
            "label_names": list(self.label_names),
            "rows": {role: len(getattr(self, role)) for role in ROLES},
            "rows_trained_on": len(self.trained_on),
            "observed": {role: float(getattr(self, role).observed.mean()) for role in ROLES},
            "digests": self.digests,
            "overlap": overlap,
            "left_in_train": left,
            **({"fold": self.fold} if self.fold else {}),
            "warnings": list(self.warnings),
        }


def join_splits(parts: Mapping[str, Split]) -> Split:
    """Return the examples of several splits, by role; an id begins with the role, because others may have it too."""
    splits = list(parts.values())
    return Split(
        texts=tuple(text for part in splits for text in part.texts),
        labels=np.concatenate([part.labels for part in splits]),
        observed=np.concatenate([part.observed for part in splits]),
        example_ids=tuple(f"{role}/{example_id}" for role, part in parts.items() for example_id in part.example_ids),
        columns={name: tuple(cell for part in splits for cell in part.columns[name]) for name in splits[0].columns},
    )


def _check_label_names(names: tuple[str, ...]) -> None:
    if not names or len(set(names)) != len(names):
        raise DataError(f"Labels must be distinct and at least one, got {shorten(', '.join(names)) or 'none'}.")
    for name in names:
        unfit = next((character for character in name if unicodedata.category(character) in _UNFIT), None)
        if not name.strip() or len(name) > _MAX_NAME or unfit is not None or name in _TAKEN:
            raise DataError(
                f"A label must have a name of 1 to {_MAX_NAME} characters on one line, other than "
                f"{' and '.join(_TAKEN)}, got {shorten(ascii(name)[1:-1]) or 'an empty name'}. Rename it."
            )


def _check_every_label_is_trained(label_names: tuple[str, ...], train: Split) -> None:
    missing = [name for name, count in zip(label_names, positives(train), strict=True) if count == 0]
    if missing:
        empty = [label_names[i] for i in np.flatnonzero(train.observed.sum(axis=0) == 0)]
        annotated = f" Nothing is annotated for {shorten(', '.join(empty))}." if empty else ""
        raise DataError(
            f"Labels without a single train example: {shorten(', '.join(missing))}.{annotated} "
            "Add examples, or remove the label from the data set."
        )


def positives(split: Split) -> npt.NDArray[np.int64]:
    """Return the examples of each label, (k,): those whose value is annotated and at least 0.5."""
    counts: npt.NDArray[np.int64] = ((split.labels >= 0.5) & split.observed).sum(axis=0)
    return counts
