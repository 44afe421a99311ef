"""The grid of a space, for `sampler=grid`."""

import itertools
from collections.abc import Iterator
from typing import Any

from trainer.core.errors import SettingsError
from tuning.space.space import Space, Value

__all__ = ["make_grid"]


def make_grid(space: Space, points: int, trials: int) -> list[dict[str, Any]]:
    """Return every combination of `points` values per range. Raises SettingsError for more than `trials` of them."""
    grid = list(itertools.islice(_combinations(space, points, {}), trials + 1))  # a whole grid may have millions
    if len(grid) > trials:
        raise SettingsError(
            f"`trials` must be at least the number of grid points, got {trials} with grid_points={points}. "
            "Raise trials, lower grid_points, or vary fewer settings in your own space."
        )
    return grid


def _combinations(space: Space, points: int, chosen: dict[str, Value], position: int = 0) -> Iterator[dict[str, Value]]:
    if position == len(space.dimensions):
        yield dict(chosen)
        return
    dimension = space.dimensions[position]
    if not dimension.applies({**space.base, **chosen}):
        yield from _combinations(space, points, chosen, position + 1)
        return
    for value in dimension.points(points):
        yield from _combinations(space, points, {**chosen, dimension.name: value}, position + 1)
