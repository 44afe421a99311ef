"""Which rows go together: batches of like length, as pure functions of lengths and seed.

n rows, b rows of a batch, t pieces of its longest row.
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

Rows = npt.NDArray[np.int64]

_WINDOW = 50  # batches sorted together: enough to cut padding to a few per cent, few enough to stay random


def length_grouped_batches(lengths: npt.NDArray[np.integer], batch_size: int, *, seed: int, epoch: int) -> list[Rows]:
    """Return the batches of one epoch: every row once, rows of like length together, batches in random order.

    lengths: (n,) pieces of each row. batch_size: rows per optimizer step, over all processes; one batch is shorter
    when n is no multiple of it. The plan depends on the arguments alone, so a resumed run makes it again.
    """
    _require_positive(batch_size=batch_size)
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    batches: list[Rows] = []
    for start in range(0, len(order), _WINDOW * batch_size):
        window = order[start : start + _WINDOW * batch_size]
        batches += _cut(window[np.argsort(lengths[window], kind="stable")], batch_size)
    return [batches[i] for i in rng.permutation(len(batches))]


def token_budget_batches(lengths: npt.NDArray[np.integer], max_tokens: int, *, seed: int, epoch: int) -> list[Rows]:
    """Return the batches of one epoch, each of as many rows of like length as max_tokens pieces hold with padding.

    A longer row stands alone. Rows of one length are in random order and so are the batches, but how many there are,
    and how long, depends on the lengths alone: every epoch has as many.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    batches = [order[rows] for rows in sequential_batches(lengths[order], max_tokens=max_tokens)]
    return [batches[i] for i in rng.permutation(len(batches))]


def split_batch(rows: Rows, rank: int, num_processes: int, micro_batch_size: int) -> list[Rows]:
    """Return the micro-batches of one process, each of at most micro_batch_size rows.

    Over all ranks every row appears once, and every rank gets the same number of micro-batches, because each one is a
    collective step. One may therefore be empty where rows are few: its loss is 0. Divide sums by `len(rows)`, the
    global count, so that the step does not depend on the number of processes.
    """
    _require_positive(num_processes=num_processes, micro_batch_size=micro_batch_size)
    if not 0 <= rank < num_processes:
        raise ValueError(f"rank must be in [0, num_processes), but got {rank=}, {num_processes=}.")
    most = -(-len(rows) // num_processes)
    count = -(-most // micro_batch_size)
    return np.array_split(rows[rank::num_processes], count) if count else []


def sequential_batches(lengths: npt.NDArray[np.integer], *, max_tokens: int) -> list[Rows]:
    """Return batches for evaluation, longest rows first, so that lack of memory shows at once.

    max_tokens: pieces per batch, padding included; a longer row stands alone.
    """
    _require_positive(max_tokens=max_tokens)
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    batches: list[Rows] = []
    start = 0
    while start < len(order):
        size = max(1, max_tokens // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


def pad(encoded: TokenizedTexts, rows: Rows, pad_id: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return (ids, mask), both (b, t): the pieces of these rows, padded at the end; mask is 1 on pieces, 0 on padding.

    t is the longest row, or 1 where none has a piece: rounding it up, even to a multiple of 4, would make one piece in
    thirteen padding.
    """
    lengths = encoded.lengths[rows]
    mask = np.arange(lengths.max(initial=min(1, len(rows)))) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    if len(rows):
        ids[mask] = np.concatenate([encoded.ids[encoded.offsets[i] : encoded.offsets[i + 1]] for i in rows])
    return ids, mask.astype(np.int64)


def padding_fraction(plan: Sequence[Rows], lengths: npt.NDArray[np.integer]) -> float:
    """Return the share of padding among the cells of the plan's padded batches, in [0, 1)."""
    cells = sum(len(rows) * int(lengths[rows].max(initial=0)) for rows in plan)
    if cells == 0:
        raise ValueError(f"plan must have cells, but got {len(plan)=}.")
    return 1.0 - sum(int(lengths[rows].sum()) for rows in plan) / cells


def _cut(rows: Rows, size: int) -> list[Rows]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, but got {name}={value}.")
