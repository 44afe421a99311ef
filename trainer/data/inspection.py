"""Finds what a user should know of a data set before training."""

from collections import defaultdict

from trainer.core.errors import shorten
from trainer.data.dataset import Split

__all__ = ["inspect_train"]


def inspect_train(train: Split) -> list[str]:
    """Return a warning for texts that occur several times in train, with different labels."""
    labels: dict[str, set[bytes]] = defaultdict(set)
    for text, row, observed in zip(train.texts, train.labels, train.observed, strict=True):
        labels[text].add(row.tobytes() + observed.tobytes())
    conflicting = [text for text, rows in labels.items() if len(rows) > 1]
    if not conflicting:
        return []
    return [
        f"{len(conflicting)} texts occur several times in train with different labels, such as "
        f'"{shorten(conflicting[0], 60)}". Training sees all of them.'
    ]
