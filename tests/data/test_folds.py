"""Folds hold every example out once, keep what belongs together, and spread every label."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trainer.core.errors import DataError, SettingsError
from trainer.data.config import DataConfig
from trainer.data.dataset import Split
from trainer.data.folds import assign_folds, hold_out, pool
from trainer.data.overlap import normalise
from trainer.data.sources import load

NAMES = tuple("abcde")


def make_split(seed, rows, *, texts=None, groups=None, shares=(0.5, 0.3, 0.1, 0.05, 0.03)):
    rng = np.random.default_rng(seed)
    labels = (rng.random((rows, len(shares))) < shares).astype(np.float32)
    return Split(
        texts=tuple(texts or (f"text {i}" for i in range(rows))),
        labels=labels,
        observed=np.ones_like(labels, dtype=bool),
        example_ids=tuple(map(str, range(rows))),
        columns={"who": tuple(groups)} if groups else {},
    )


def assign(split, folds=5, seed=0, **more):
    return assign_folds(split, folds, seed=seed, label_names=NAMES, **more)


def test_folds_of_single_texts_are_even_in_size_and_labels():
    split = make_split(1, 1000)
    found = assign(split)
    assert np.ptp(np.bincount(found)[1:]) <= 5
    per_fold = np.array([split.labels[found == fold].sum(axis=0) for fold in range(1, 6)])
    assert np.ptp(per_fold, axis=0).max() <= 2
    assert np.ptp(per_fold[:, -1]) <= 1  # the rarest


@st.composite
def splits(draw):
    rows = draw(st.integers(20, 60))
    numbers = draw(st.lists(st.integers(0, 25), min_size=rows, max_size=rows))
    texts = [
        f"{word} {number}{sign}" for number, (word, sign) in zip(numbers, [("A", "!"), ("a", "")] * rows, strict=False)
    ]
    groups = draw(st.lists(st.sampled_from(["", "x", "y", "z", *"pqrstuv"]), min_size=rows, max_size=rows))
    return make_split(draw(st.integers(0, 99)), rows, texts=texts, groups=groups)


@settings(max_examples=60)
@given(split=splits(), folds=st.integers(2, 4), seed=st.integers(0, 3), by_group=st.booleans())
def test_what_belongs_together_is_in_one_fold_whatever_the_order_of_rows(split, folds, seed, by_group):
    more = {"group_column": "who"} if by_group else {}
    try:
        found = assign(split, folds, seed, **more)
    except DataError:
        assume(False)
    assert set(found) == set(range(1, folds + 1))
    for keys in ([normalise(text) for text in split.texts], split.columns["who"] if by_group else ()):
        folds_of = {key: {int(f) for k, f in zip(keys, found, strict=True) if k == key} for key in keys if key}
        assert all(len(one) == 1 for one in folds_of.values())
    order = np.random.default_rng(seed).permutation(len(split))
    np.testing.assert_array_equal(assign(split.take(order), folds, seed, **more), found[order])


def test_the_seed_decides():
    split = make_split(1, 200)
    np.testing.assert_array_equal(assign(split, seed=3), assign(split, seed=3))
    assert (assign(split, seed=3) != assign(split, seed=4)).any()


def test_large_groups_are_evened_out_by_small_ones():
    groups = ["big"] * 60 + [f"g{i // 2}" for i in range(240)]
    sizes = np.bincount(assign(make_split(2, 300, groups=groups), group_column="who"))[1:]
    assert sizes.max() <= 64


def test_every_example_is_held_out_once(write):
    content = "text,labels\n" + "".join(
        f"{role} text {i},{'joy' if i % 2 else 'anger'}\n" for role in "%" for i in range(12)
    )
    folder = write(**{f"{role}__csv": content.replace("%", role) for role in ("train", "dev", "test")})
    given = load(DataConfig(dataset=str(folder)), seed=0)
    parts = [load(DataConfig(dataset=str(folder), folds=3, fold=fold), seed=0) for fold in (1, 2, 3)]
    held_out = [name for part in parts for name in part.dev.example_ids]
    assert sorted(held_out) == sorted(pool(given.train, given.dev).example_ids)
    for part in parts:
        assert not set(part.train.texts) & set(part.dev.texts)
        assert len(part.train) + len(part.dev) == len(held_out)
        assert part.test.digest == given.test.digest
    assert parts[1].facts()["fold"] == "2 of 3"


def test_a_label_in_one_unit_is_refused():
    split = make_split(0, 40, texts=["same"] * 2 + [f"t{i}" for i in range(38)], shares=(0.5, 0))
    labels = split.labels.copy()
    labels[:2, 1] = 1
    alone = Split(texts=split.texts, labels=labels, observed=split.observed, example_ids=split.example_ids)
    with pytest.raises(DataError, match=r"Every label.*: rare"):
        assign_folds(alone, 2, seed=0, label_names=("common", "rare"))


def test_more_folds_than_groups_are_refused():
    with pytest.raises(DataError, match=r"`folds` must be at most.*groups.*2, got 5"):
        assign(make_split(0, 20, groups=["x", "y"] * 10), group_column="who")


def test_a_part_that_is_not_annotated_is_no_positive():
    split = make_split(3, 50, shares=(1.0, 0.5))
    observed = split.observed.copy()
    observed[1:, 0] = False
    hidden = Split(texts=split.texts, labels=split.labels, observed=observed, example_ids=split.example_ids)
    with pytest.raises(DataError, match=": a"):
        assign_folds(hidden, 2, seed=0, label_names=NAMES[:2])


def test_a_fold_is_held_out_of_the_rest():
    split = make_split(1, 30)
    train, dev = hold_out(split, np.arange(30) % 3 + 1, 2)
    assert dev.example_ids == tuple(map(str, range(1, 30, 3)))
    assert len(train) == 20


@pytest.mark.parametrize(
    "values", [{"folds": 1}, {"folds": 21}, {"folds": 3, "fold": 4}, {"fold": 1}, {"folds": 3, "fold": -1}]
)
def test_impossible_folds_are_refused(values):
    with pytest.raises(SettingsError, match=f"`{list(values)[-1]}` must"):
        DataConfig(**values)
