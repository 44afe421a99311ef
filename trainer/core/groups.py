"""Groups of examples that belong together, such as the lines of a dialogue."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["group_numbers"]


def group_numbers(cells: Sequence[str]) -> NDArray[np.intp]:
    """Return the number of each example's group, (n,), from 0 in the order of first appearance.

    Equal cells are one group; an empty cell is a group of its own.
    """
    numbers: dict[str | int, int] = {}
    return np.array([numbers.setdefault(cell or at, len(numbers)) for at, cell in enumerate(cells)], dtype=np.intp)
