"""Texts that are in more than one split."""

import re
import unicodedata

import numpy as np
import numpy.typing as npt

from trainer.data.dataset import OverlapReport, Split

__all__ = ["find_leaks", "find_overlap", "normalise"]

_MARK = re.compile(r"[^\w\s]|_")  # `\w` includes the underscore


def normalise(text: str) -> str:
    """Return the text without differences in case, character width, white space and punctuation.

    NFKC, case folded, punctuation removed (symbols and emoji stay), white space collapsed. A text of punctuation alone
    keeps it: "?!" and "..." differ.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    bare = _MARK.sub(lambda mark: "" if unicodedata.category(mark[0])[0] == "P" else mark[0], folded)
    return " ".join(bare.split()) or " ".join(folded.split())


def find_overlap(train: Split, dev: Split, test: Split) -> OverlapReport:
    """Return how many examples of dev and test have a text that is also in train, and of test one that is in dev.

    The counts of examples dropped and left are 0: the caller decides whether to drop any.
    """
    keys = {id(split): _keys(split) for split in (train, dev, test)}  # each split is compared twice

    def exact(split: Split, other: Split) -> int:
        return sum(map(set(other.texts).__contains__, split.texts))

    def normalised(split: Split, other: Split) -> int:
        return sum(map(set(keys[id(other)]).__contains__, keys[id(split)]))

    return OverlapReport(
        dev_exact=exact(dev, train),
        dev_normalised=normalised(dev, train),
        test_exact=exact(test, train),
        test_normalised=normalised(test, train),
        test_in_dev_exact=exact(test, dev),
        test_in_dev_normalised=normalised(test, dev),
    )


def find_leaks(split: Split, *held_out: Split) -> npt.NDArray[np.bool_]:
    """Return a mask (n,) of the examples of a split whose normalised text is also in a split held out."""
    keys = {key for other in held_out for key in _keys(other)}
    return np.array([key in keys for key in _keys(split)], dtype=np.bool_)


def _keys(split: Split) -> list[str]:
    return [normalise(text) for text in split.texts]
