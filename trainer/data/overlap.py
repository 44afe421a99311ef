"""Leaks between splits, and samples of train."""

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from trainer.core.errors import DataError
from trainer.data.dataset import OverlapReport, Split

__all__ = ["find_overlap", "normalise", "sample_examples"]

_MARK = re.compile(r"[^\w\s]|_")


def normalise(text: str) -> str:
    """Return the text with case, character width, white space and punctuation levelled.

    NFKC, case folded, punctuation taken out (symbols and emoji stay), white space collapsed. A text of nothing but
    punctuation keeps it: "?!" and "..." are not the same text.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    bare = _MARK.sub(lambda mark: "" if unicodedata.category(mark[0])[0] == "P" else mark[0], folded)
    return " ".join(bare.split()) or " ".join(folded.split())


def find_overlap(train: Split, dev: Split, test: Split) -> tuple[OverlapReport, npt.NDArray[np.bool_]]:
    """Return the counts of dev and test rows whose text stands in train, and which train rows to blame (n,).

    The report says nothing of rows dropped or left: whether to drop any is the caller's choice.
    """
    keys = {id(split): [normalise(text) for text in split.texts] for split in (train, dev, test)}
    held_out = {*keys[id(dev)], *keys[id(test)]}
    trained, trained_keys = set(train.texts), set(keys[id(train)])
    report = OverlapReport(
        dev_exact=_count(dev.texts, trained.__contains__),
        dev_normalised=_count(keys[id(dev)], trained_keys.__contains__),
        test_exact=_count(test.texts, trained.__contains__),
        test_normalised=_count(keys[id(test)], trained_keys.__contains__),
    )
    return report, np.array([key in held_out for key in keys[id(train)]], dtype=np.bool_)


def sample_examples(labels: npt.NDArray[np.float32], count: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Return the sorted indices of a random sample of rows in which every label has at least one example.

    labels: (n, k). count: rows wanted, at most n. Raises DataError when count is too small for all labels.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    positive = labels[order] >= 0.5
    covered = np.zeros(labels.shape[1], dtype=np.bool_)
    chosen: list[int] = []
    for label in np.argsort(positive.sum(axis=0), kind="stable"):
        if not covered[label] and positive[:, label].any():
            first = int(positive[:, label].argmax())
            chosen.append(first)
            covered |= positive[first]
    if len(chosen) > count:
        raise DataError(
            f"max_train_rows must leave room for an example of every label, but got max_train_rows={count} "
            f"where {len(chosen)} rows are needed. Raise it."
        )
    rest = np.setdiff1d(np.arange(len(labels)), chosen)
    return np.sort(order[np.concatenate([np.array(chosen, dtype=np.int64), rest[: count - len(chosen)]])])


def _count(values: Sequence[str], is_known: Callable[[str], bool]) -> int:
    return sum(map(is_known, values))
