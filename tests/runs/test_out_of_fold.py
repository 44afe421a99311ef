"""Predictions of folds become one set in an order of its own."""

import numpy as np
import pytest

from trainer.core.errors import DataError
from trainer.runs.out_of_fold import FOLD, average, pool
from trainer.runs.results import Predictions


def part(*ids, start=0.0, names=("joy", "grief")):
    shape = (len(ids), len(names))
    return Predictions(
        label_names=names,
        scores=start + np.arange(np.prod(shape), dtype=float).reshape(shape),
        labels=np.ones(shape),
        observed=np.ones(shape, dtype=bool),
        example_ids=ids,
        texts=tuple(f"text {one}" for one in ids),
        columns={"who": tuple(f"by {one}" for one in ids)},
        group_column="who",
    )


def test_examples_are_pooled_in_the_order_of_their_ids():
    found = pool({1: part("c", "a"), 2: part("b", start=9.0)})
    assert found.example_ids == ("a", "b", "c")
    assert found.texts == ("text a", "text b", "text c")
    assert found.columns == {"who": ("by a", "by b", "by c"), FOLD: ("1", "2", "1")}
    assert found.logits.tolist() == [[2.0, 3.0], [9.0, 10.0], [0.0, 1.0]]
    assert pool({2: part("b", start=9.0), 1: part("c", "a")}).example_ids == found.example_ids
    assert found.group_column == "who"


@pytest.mark.parametrize(
    ("second", "message"),
    [(part("a"), "held out by several"), (part("b", names=("joy", "pride")), "same labels")],
)
def test_folds_that_do_not_fit_are_refused(second, message):
    with pytest.raises(DataError, match=message):
        pool({1: part("a"), 2: second})


def test_logits_of_the_same_examples_are_averaged():
    found = average([part("a", "b"), part("a", "b", start=2.0)])
    assert found.logits.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(DataError, match="same labels and examples"):
        average([part("a", "b"), part("b", "a")])
