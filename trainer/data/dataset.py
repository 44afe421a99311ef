"""The form every source is brought to: three splits over one list of labels."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from trainer.core.errors import DataError

__all__ = ["ROLES", "Dataset", "OverlapReport", "Split"]

ROLES = ("train", "dev", "test")
"""train fits weights; dev stops, calibrates and chooses; test is read once at the end."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The n examples of one role, over k labels, in the order of the source."""

    texts: tuple[str, ...]
    """n texts, none of them blank."""
    labels: npt.NDArray[np.float32]
    """(n, k), each in [0, 1]."""
    observed: npt.NDArray[np.bool_]
    """(n, k), false where the source never annotates that label: such a cell counts in no loss and no metric."""
    example_ids: tuple[str, ...]
    """n ids, each once."""

    def __post_init__(self) -> None:
        n = len(self.texts)
        if self.labels.ndim != 2 or len(self.labels) != n or self.observed.shape != self.labels.shape:
            raise DataError(
                "labels and observed must have shape (n, k) with n = number of texts, but got "
                f"{n=}, {self.labels.shape=}, {self.observed.shape=}."
            )
        if self.labels.dtype != np.float32 or self.observed.dtype != np.bool_:
            raise DataError(
                f"labels must be float32 and observed bool, but got {self.labels.dtype=}, {self.observed.dtype=}."
            )
        if not ((self.labels >= 0) & (self.labels <= 1)).all():
            raise DataError("labels must lie in [0, 1], but got a value outside, or NaN.")
        if len(self.example_ids) != n or len(set(self.example_ids)) != n:
            raise DataError(f"example_ids must be n distinct ids, but got {n=}, {len(set(self.example_ids))} distinct.")
        blank = next((i for i, text in enumerate(self.texts) if not text.strip()), None)
        if blank is not None:
            raise DataError(f"texts must not be blank, but got row_id={self.example_ids[blank]!r} with a blank text.")

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of texts, labels and mask in their order; the same for every format and for any row ids."""
        sha = hashlib.sha256(json.dumps([*self.labels.shape, self.texts]).encode())
        sha.update(np.ascontiguousarray(self.labels, dtype="<f4").tobytes())
        sha.update(np.ascontiguousarray(self.observed).tobytes())
        return sha.hexdigest()

    def take(self, rows: npt.NDArray[np.integer]) -> "Split":
        """Return the split of these rows, in this order. rows: (m,) indices."""
        return Split(
            texts=tuple(self.texts[i] for i in rows),
            labels=self.labels[rows],
            observed=self.observed[rows],
            example_ids=tuple(self.example_ids[i] for i in rows),
        )


@dataclass(frozen=True, kw_only=True)
class OverlapReport:
    """How many rows of dev and test have a text that also stands in train, counted before any is dropped."""

    dev_exact: int = 0
    """Rows of dev whose text stands in train letter for letter."""
    dev_normalised: int = 0
    """Rows of dev whose text stands in train once case, width, space and punctuation are levelled; exact ones too."""
    test_exact: int = 0
    """As dev_exact, for test."""
    test_normalised: int = 0
    """As dev_normalised, for test."""
    dropped: int = 0
    """Rows that are not trained on because of it."""
    dev_left: int = 0
    """Rows of dev whose text, levelled, still stands in train as it is trained on: 0 once they are dropped there."""
    test_left: int = 0
    """As dev_left, for test."""


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
    """Folder, or hub id with its revision after an @."""
    licence: str
    """As its source states it."""
    overlap: OverlapReport
    added: Split | None = None
    """Rows of dev that are trained on as well; None = dev is held out."""

    def __post_init__(self) -> None:
        k = len(self.label_names)
        if k == 0 or len(set(self.label_names)) != k:
            raise DataError(f"label_names must be distinct and at least one, but got {self.label_names=}.")
        for role in ROLES:
            split: Split = getattr(self, role)
            if not len(split):
                raise DataError(f"every split must have rows, but got none in {role} of dataset={self.name!r}.")
            if split.labels.shape[1] != k:
                raise DataError(
                    f"every split must have one column per label, but got {split.labels.shape[1]} in {role} for {k=}."
                )
        _check_every_label_is_trained(self.label_names, self.train)

    @cached_property
    def trained_on(self) -> Split:
        """The rows that weights are fitted on: train, then those added; the ids say where a row is from."""
        if self.added is None:
            return self.train
        parts = {"train": self.train, "dev": self.added}
        return Split(
            texts=self.train.texts + self.added.texts,
            labels=np.concatenate([part.labels for part in parts.values()]),
            observed=np.concatenate([part.observed for part in parts.values()]),
            example_ids=tuple(f"{role}/{row_id}" for role, part in parts.items() for row_id in part.example_ids),
        )

    @property
    def digests(self) -> dict[str, str]:
        """Digest of each split by role, as it was read: rows that are added to train change none."""
        return {role: getattr(self, role).digest for role in ROLES}

    def facts(self) -> dict[str, object]:
        """What dataset.json says of it, all of it JSON values; `left_in_train` counts rows of the splits held out."""
        overlap = vars(self.overlap).copy()
        left = {role: overlap.pop(f"{role}_left") for role in ROLES[1:]}
        if self.added is not None:
            del left["dev"]
        return {
            "name": self.name,
            "source": self.source,
            "licence": self.licence,
            "label_names": list(self.label_names),
            "rows": {role: len(getattr(self, role)) for role in ROLES},
            "rows_trained_on": len(self.trained_on),
            "digests": self.digests,
            "overlap": overlap,
            "left_in_train": left,
        }


def _check_every_label_is_trained(label_names: tuple[str, ...], train: Split) -> None:
    counts = ((train.labels >= 0.5) & train.observed).sum(axis=0)
    missing = [name for name, count in zip(label_names, counts, strict=True) if count == 0]
    if missing:
        raise DataError(
            "every label must have a train example, but got a label without a single train example: "
            f"{', '.join(missing)}. Add rows, or take the label out of the data set."
        )
