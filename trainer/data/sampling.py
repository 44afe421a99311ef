"""Random samples of a split."""

import numpy as np
import numpy.typing as npt

from trainer.core.errors import DataError

__all__ = ["sample_examples"]


def sample_examples(labels: npt.NDArray[np.float32], count: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Return the sorted indices of a random sample in which every label has an example.

    labels: (n, k), 0 where a label is not annotated. count: size of the sample, at most n.
    Raises DataError when count is too small for all labels.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    positive = labels[order] >= 0.5
    covered = np.zeros(labels.shape[1], dtype=np.bool_)
    chosen: list[int] = []
    # Rarest first: their examples often have a common label too, so fewer examples are forced into the sample.
    for label in np.argsort(positive.sum(axis=0), kind="stable"):
        if not covered[label] and positive[:, label].any():
            first = int(positive[:, label].argmax())
            chosen.append(first)
            covered |= positive[first]
    if len(chosen) > count:
        raise DataError(
            f"`max_train_rows` must be at least {len(chosen)}, so that every label has an example, got {count}."
        )
    rest = np.setdiff1d(np.arange(len(labels)), chosen)
    return np.sort(order[np.concatenate([np.array(chosen, dtype=np.int64), rest[: count - len(chosen)]])])
