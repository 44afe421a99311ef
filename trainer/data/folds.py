"""Folds of train and dev together: equal texts and groups stay whole, and every label is spread over the folds."""

import numpy as np
from numpy.typing import NDArray

from trainer.core.errors import DataError, shorten
from trainer.core.groups import group_numbers
from trainer.data.dataset import Split, join_splits
from trainer.data.overlap import normalise

__all__ = ["assign_folds", "hold_out", "pool"]

Counts = NDArray[np.int64]


def pool(train: Split, dev: Split) -> Split:
    """Return the examples that folds are made of: those of train, then those of dev; their ids begin with the role."""
    return join_splits({"train": train, "dev": dev})


def hold_out(pooled: Split, fold_of_example: Counts, fold: int) -> tuple[Split, Split]:
    """Return the examples that are trained on and those held out as dev. fold: from 1."""
    held_out = fold_of_example == fold
    return pooled.take(np.flatnonzero(~held_out)), pooled.take(np.flatnonzero(held_out))


def assign_folds(
    pooled: Split, folds: int, *, seed: int, label_names: tuple[str, ...], group_column: str = ""
) -> Counts:
    """Return the fold of each example, (n,), from 1 to `folds`; the same for the same examples in any order.

    Examples whose normalised texts are equal, or whose cells of the group column are, form a unit that is not split.
    Units are distributed by iterative stratification, counted in examples, so that the folds have as many positives of
    every label, and as many examples, as the sizes of the units allow.
    Raises DataError for fewer units than folds, and for a label whose positives are all in one fold.
    Source: Sechidis, Tsoumakas and Vlahavas 2011, https://doi.org/10.1007/978-3-642-23808-6_10.
    """
    rng = np.random.default_rng(seed)
    positives = (pooled.labels >= 0.5) & pooled.observed
    units = _units(pooled, group_column, rng)
    counts, sizes = _sums(positives, units), np.bincount(units)
    if len(sizes) < folds:
        what = "groups" if group_column else "different texts"
        raise DataError(f"`folds` must be at most the number of {what} in train and dev, {len(sizes)}, got {folds}.")
    fold_of_example: Counts = 1 + _stratify(counts, sizes, folds, rng)[units]
    _check_spread(positives, fold_of_example, label_names)
    return fold_of_example


def _units(pooled: Split, group_column: str, rng: np.random.Generator) -> Counts:
    """Return the unit of each example, (n,), numbered in random order."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    keys = [normalise(text) for text in pooled.texts]
    names, texts = np.unique(np.array(keys, dtype=object), return_inverse=True)  # sorted: any order of rows is the same
    if not group_column:
        return _renumbered(texts, rng)
    groups = group_numbers(pooled.columns[group_column])
    # A text in two groups joins them: examples and groups are the edges between texts and groups.
    size = len(names) + int(groups.max()) + 1
    edges = coo_array((np.ones(len(texts)), (texts, len(names) + groups)), shape=(size, size))
    _, found = connected_components(edges, directed=False)
    first: dict[int, int] = {}  # a unit's number follows from its first text, not from the order of rows
    numbers = np.array([first.setdefault(int(unit), len(first)) for unit in found[: len(names)]])
    return _renumbered(numbers[texts], rng)


def _renumbered(units: Counts, rng: np.random.Generator) -> Counts:
    numbers: Counts = rng.permutation(units.max() + 1)[units]
    return numbers


def _sums(positives: NDArray[np.bool_], units: Counts) -> Counts:
    """Return the positives of each unit and label, (u, k)."""
    order = np.argsort(units, kind="stable")
    starts = np.flatnonzero(np.diff(units[order], prepend=-1))
    sums: Counts = np.add.reduceat(positives[order].astype(np.int64), starts, axis=0)
    return sums


def _stratify(counts: Counts, sizes: Counts, folds: int, rng: np.random.Generator) -> Counts:
    """Return the fold of each unit, (u,), from 0. counts: positives (u, k). sizes: examples (u,)."""
    fold_of_unit = np.full(len(sizes), -1)
    wanted = np.tile(counts.sum(axis=0) / folds, (folds, 1))
    room = np.full(folds, sizes.sum() / folds)
    left = counts.sum(axis=0)
    while (waiting := np.flatnonzero(fold_of_unit < 0)).size:
        # The rarest label first: its positives have the fewest ways to be spread. Units without any label are last.
        label = int(np.where(left > 0, left, np.inf).argmin()) if left.any() else None
        weights = sizes[waiting] if label is None else counts[waiting, label]
        chosen = waiting[weights > 0]
        for unit in chosen[np.argsort(-weights[weights > 0], kind="stable")]:  # large ones first: small ones even out
            need = room if label is None else wanted[:, label]
            fold = np.lexsort((rng.random(folds), room, need))[-1]
            fold_of_unit[unit] = fold
            wanted[fold] -= counts[unit]
            room[fold] -= sizes[unit]
        left = left - counts[chosen].sum(axis=0)
    return fold_of_unit


def _check_spread(positives: NDArray[np.bool_], fold_of_example: Counts, label_names: tuple[str, ...]) -> None:
    """Raise DataError for labels with positives in one fold only: without it, nothing of them would be trained on."""
    per_fold = np.array([positives[fold_of_example == fold].any(axis=0) for fold in np.unique(fold_of_example)])
    alone = [label_names[label] for label in np.flatnonzero(per_fold.sum(axis=0) == 1)]
    if alone:
        raise DataError(
            f"Every label must have positives in two folds, got labels whose positives are one text or one group: "
            f"{shorten(', '.join(alone))}. Add examples, or remove the label from the data set."
        )
