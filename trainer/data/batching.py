"""Batches of examples of similar length, as pure functions of lengths and seed.

n examples, b examples of a batch, t tokens of its longest example.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainer.data.tokenization import TokenizedTexts

__all__ = [
    "length_grouped_batches",
    "pad",
    "padding_fraction",
    "sequential_batches",
    "split_batch",
    "token_budget_batches",
]

Indices = npt.NDArray[np.int64]

_WINDOW = 50  # batches sorted together: enough for a few per cent of padding, few enough to stay random


def length_grouped_batches(
    lengths: npt.NDArray[np.integer], batch_size: int, *, seed: int, epoch: int
) -> list[Indices]:
    """Return the batches of one epoch: every example once, similar lengths together, batches in random order.

    lengths: (n,) tokens of each example. batch_size: examples per optimizer step, over all processes; one batch is
    shorter when n is no multiple of it. The result depends on the arguments alone, so a resumed run repeats it.
    """
    _require_positive(batch_size=batch_size)
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    batches: list[Indices] = []
    for start in range(0, len(order), _WINDOW * batch_size):
        window = order[start : start + _WINDOW * batch_size]
        # Stable, because the order of ties in NumPy's default sort depends on the CPU.
        batches += _chunks(window[np.argsort(lengths[window], kind="stable")], batch_size)
    return [batches[i] for i in rng.permutation(len(batches))]


def token_budget_batches(lengths: npt.NDArray[np.integer], max_tokens: int, *, seed: int, epoch: int) -> list[Indices]:
    """Return the batches of one epoch, each as many examples of similar length as fit into max_tokens with padding.

    A longer example is a batch alone. Batches, and examples of equal length, are in random order, but the number and
    the sizes of batches depend on the lengths alone and so are the same in every epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    # Shuffled again below, because these batches go from the longest texts to the shortest.
    batches = [order[examples] for examples in sequential_batches(lengths[order], max_tokens=max_tokens)]
    return [batches[i] for i in rng.permutation(len(batches))]


def split_batch(examples: Indices, rank: int, num_processes: int, micro_batch_size: int) -> list[Indices]:
    """Return the micro batches of one process, each of at most micro_batch_size examples.

    Over all ranks every example is in one of them, and every rank has the same number of micro batches, because each
    is a collective step. One may therefore be empty where examples are few: its loss is 0. Divide sums by
    `len(examples)`, the global count, so that the step does not depend on the number of processes.
    """
    _require_positive(num_processes=num_processes, micro_batch_size=micro_batch_size)
    if not 0 <= rank < num_processes:
        raise ValueError(f"rank must be in [0, {num_processes}), got {rank}.")
    most = -(-len(examples) // num_processes)  # rounded up
    count = -(-most // micro_batch_size)
    # Batches are sorted by length: every n-th example gives all ranks about the same number of tokens.
    return np.array_split(examples[rank::num_processes], count) if count else []


def sequential_batches(lengths: npt.NDArray[np.integer], *, max_tokens: int) -> list[Indices]:
    """Return batches for evaluation, longest examples first, so that a lack of memory shows in the first batch.

    max_tokens: tokens per batch, padding included; a longer example is a batch alone.
    """
    _require_positive(max_tokens=max_tokens)
    order = np.argsort(-lengths.astype(np.int64), kind="stable")  # unsigned lengths would wrap
    batches: list[Indices] = []
    start = 0
    while start < len(order):
        size = max(1, max_tokens // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


def pad(texts: TokenizedTexts, examples: Indices, pad_id: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return (ids, mask), both (b, t): the tokens of these examples, padded at the end; the mask is 1 on tokens.

    t is the longest example, or 1 where none has a token. Rounding it up, even to a multiple of 4, would make 8 % of
    the tokens padding.
    """
    lengths = texts.lengths[examples]
    # At least one column: attention refuses a batch without any.
    mask = np.arange(lengths.max(initial=min(1, len(examples)))) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    if len(examples):
        ids[mask] = np.concatenate([texts.ids[texts.offsets[i] : texts.offsets[i + 1]] for i in examples])
    return ids, mask.astype(np.int64)


def padding_fraction(batches: Sequence[Indices], lengths: npt.NDArray[np.integer]) -> float:
    """Return the fraction of padding in the padded batches, in [0, 1)."""
    cells = sum(len(examples) * int(lengths[examples].max(initial=0)) for examples in batches)
    if cells == 0:
        raise ValueError(f"batches must contain tokens, got {len(batches)} empty ones.")
    return 1.0 - sum(int(lengths[examples].sum()) for examples in batches) / cells


def _chunks(examples: Indices, size: int) -> list[Indices]:
    return [examples[start : start + size] for start in range(0, len(examples), size)]


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
