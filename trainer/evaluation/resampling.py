"""Resamples of examples, or of groups of examples that are drawn together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trainer.core.errors import DataError, SettingsError
from trainer.evaluation.arrays import Array, FloatArray, IntArray

__all__ = ["Resampling", "chunks", "consecutive", "resamples", "sum_by_group"]

_CHUNK_CELLS = 2_000_000  # 16 MB for each float64 array of a chunk


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """Number and seed of the resamples, and level of the intervals."""

    num_resamples: int = 1000
    seed: int = 0
    """The same seed and number of examples give the same draws."""
    level: float = 0.95
    """Probability of an interval, between 0 and 1."""

    def __post_init__(self) -> None:
        if self.num_resamples < 1:
            raise SettingsError(f"`num_resamples` must be at least 1, got {self.num_resamples}.")
        if not 0.0 < self.level < 1.0:
            raise SettingsError(f"`level` must lie between 0 and 1, got {self.level}.")


def consecutive(groups: IntArray) -> IntArray:
    """Return the groups as numbers from 0 without a gap, (n,)."""
    numbers: IntArray = np.unique(groups, return_inverse=True)[1]
    return numbers


def sum_by_group(table: Array, groups: IntArray | None) -> FloatArray:
    """Return the sums of the rows (n, columns) of each group, (groups, columns); without groups the rows themselves."""
    if groups is None:
        return np.asarray(table, np.float64)
    if groups.shape != (len(table),) or not np.issubdtype(groups.dtype, np.integer):
        raise DataError(
            f"`groups` must be {len(table)} integers, one for each example, got {groups.dtype} of shape {groups.shape}."
        )
    numbers = consecutive(groups)
    sums = np.zeros((numbers.max() + 1, table.shape[1]))
    np.add.at(sums, numbers, table)
    return sums


def resamples(num_units: int, resampling: Resampling, width: int = 1) -> Iterator[FloatArray]:
    """Yield how often each unit (example or group) is drawn, (chunk, units).

    The size of chunks does not change the draws. width: columns of the widest array that is made of a chunk.
    """
    generator = np.random.default_rng(resampling.seed)
    for size in chunks(max(num_units, width), resampling):
        # Each resample has its range of indices, so that one bincount counts the whole chunk.
        drawn = generator.integers(num_units, size=(size, num_units)) + num_units * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * num_units)
        yield counts.reshape(size, num_units).astype(np.float64)


def chunks(width: int, resampling: Resampling) -> Iterator[int]:
    """Yield numbers of resamples whose arrays of this width fit the memory together."""
    chunk = max(1, _CHUNK_CELLS // width)
    for start in range(0, resampling.num_resamples, chunk):
        yield min(chunk, resampling.num_resamples - start)
