import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.batching import (
    length_grouped_batches,
    pad,
    padding_fraction,
    sequential_batches,
    split_batch,
    token_budget_batches,
)
from trainer.data.tokenization import TokenizedTexts

lengths_lists = st.lists(st.integers(1, 128), max_size=300).map(lambda x: np.array(x, dtype=np.int64))


def encoded(lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TokenizedTexts(ids=np.arange(1, offsets[-1] + 1, dtype=np.int32), offsets=offsets, truncated=0)


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=300).map(np.array),
    max_tokens=st.integers(1, 500),
    seed=st.integers(0, 9),
)
def test_batches_by_tokens_contain_every_example_once_within_the_budget_in_every_epoch(lengths, max_tokens, seed):
    first, second = (token_budget_batches(lengths, max_tokens, seed=seed, epoch=epoch) for epoch in (0, 1))
    for plan in (first, second):
        assert sorted(np.concatenate(plan)) == list(range(len(lengths)))
        assert all(len(rows) == 1 or len(rows) * lengths[rows].max() <= max_tokens for rows in plan)
    assert sorted(map(len, first)) == sorted(map(len, second))


def test_batches_by_tokens_are_random_and_depend_on_seed_and_epoch_alone():
    lengths = np.random.default_rng(0).integers(3, 40, 2000)

    def plan(seed, epoch):
        return [rows.tolist() for rows in token_budget_batches(lengths, 512, seed=seed, epoch=epoch)]

    assert plan(1, 2) == plan(1, 2)
    assert plan(1, 2) != plan(1, 3)
    assert plan(1, 2) != plan(2, 2)
    longest = [max(lengths[rows]) for rows in plan(1, 2)]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))
    assert padding_fraction(token_budget_batches(lengths, 512, seed=1, epoch=2), lengths) < 0.02


@given(lengths_lists, st.integers(1, 40), st.integers(0, 2**32), st.integers(0, 5))
def test_an_epoch_has_each_example_once_and_at_most_one_short_batch(lengths, batch_size, seed, epoch):
    plan = length_grouped_batches(lengths, batch_size, seed=seed, epoch=epoch)
    assert sorted(row for rows in plan for row in rows) == list(range(len(lengths)))
    sizes = [len(rows) for rows in plan]
    assert len(sizes) == -(-len(lengths) // batch_size)
    assert sum(size != batch_size for size in sizes) == bool(len(lengths) % batch_size)


def test_an_epoch_depends_on_seed_and_epoch_alone():
    lengths = np.random.default_rng(0).integers(3, 60, 1000)
    as_lists = [
        [rows.tolist() for rows in length_grouped_batches(lengths, 16, seed=seed, epoch=epoch)]
        for seed, epoch in ((7, 0), (7, 0), (7, 1), (8, 0))
    ]
    assert as_lists[0] == as_lists[1]
    assert as_lists[0] != as_lists[2]
    assert as_lists[0] != as_lists[3]


def test_batches_of_similar_length_have_little_padding_and_random_order():
    lengths = np.random.default_rng(0).integers(4, 60, 6400)
    plan = length_grouped_batches(lengths, 32, seed=1, epoch=0)
    unsorted = [np.arange(start, start + 32) for start in range(0, 6400, 32)]
    assert padding_fraction(plan, lengths) < 0.1
    assert padding_fraction(unsorted, lengths) > 0.3
    widths = np.array([lengths[rows].max() for rows in plan])
    assert abs(np.corrcoef(widths, np.arange(len(widths)))[0, 1]) < 0.3


@given(st.integers(0, 70), st.integers(1, 6), st.integers(1, 9))
def test_ranks_divide_a_batch_among_them(n, num_processes, micro_batch_size):
    rows = np.random.default_rng(n).permutation(n)
    shares = [split_batch(rows, rank, num_processes, micro_batch_size) for rank in range(num_processes)]
    assert sorted(row for share in shares for micro in share for row in micro) == list(range(n))
    assert len({len(share) for share in shares}) == 1
    assert all(len(micro) <= micro_batch_size for share in shares for micro in share)
    per_rank = [sum(map(len, share)) for share in shares]
    assert max(per_rank) - min(per_rank) <= 1


def test_one_process_takes_micro_batches_in_order():
    assert [micro.tolist() for micro in split_batch(np.arange(8), 0, 1, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@given(lengths_lists.filter(len), st.integers(1, 600))
def test_evaluation_batches_keep_the_budget_and_contain_every_example_once(lengths, max_tokens):
    plan = sequential_batches(lengths, max_tokens=max_tokens)
    assert all(len(rows) == 1 or len(rows) * lengths[rows].max() <= max_tokens for rows in plan)
    assert lengths[plan[0][0]] == lengths.max()
    assert sorted(np.concatenate(plan)) == list(range(len(lengths)))


def test_evaluation_of_nothing_has_no_batches():
    assert sequential_batches(np.array([], dtype=np.int64), max_tokens=8) == []


@given(lengths_lists.filter(len), st.data())
def test_padding_keeps_tokens_and_masks_the_rest(lengths, data):
    rows = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=8)), dtype=np.int64)
    texts = encoded(lengths)
    ids, mask = pad(texts, rows, 0)
    assert ids.dtype == mask.dtype == np.int64
    assert ids.shape == mask.shape
    assert ids.shape[1] == lengths[rows].max()
    assert (mask.sum(axis=1) == lengths[rows]).all()
    assert ((ids != 0) == (mask == 1)).all()
    for i, row in enumerate(rows):
        assert ids[i, : lengths[row]].tolist() == texts.ids[texts.offsets[row] : texts.offsets[row + 1]].tolist()


def test_padding_of_an_empty_micro_batch_has_no_rows():
    ids, mask = pad(encoded([3, 2]), np.array([], dtype=np.int64), 0)
    assert ids.shape == mask.shape == (0, 0)


def test_padding_fraction_is_the_masked_part_of_the_batches():
    lengths = np.array([1, 4, 2, 2])
    assert padding_fraction([np.array([0, 1]), np.array([2, 3])], lengths) == pytest.approx(1 - 9 / 12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: length_grouped_batches(np.array([1]), 0, seed=0, epoch=0),
            "batch_size must be at least 1, got 0",
        ),
        (lambda: split_batch(np.arange(3), 2, 2, 1), "rank must be .* got 2"),
        (lambda: sequential_batches(np.array([1]), max_tokens=0), "max_tokens must be at least 1"),
        (lambda: padding_fraction([], np.array([1])), "batches must contain tokens"),
    ],
)
def test_impossible_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
