"""Predictions of folds become one set in an order of its own."""

from dataclasses import replace

import numpy as np
import pytest

from trainer.core.errors import DataError
from trainer.evaluation.calibration_fit import fit_temperature
from trainer.evaluation.thresholds import POLICIES
from trainer.runs.out_of_fold import FOLD, cross_fitted, pool
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


def test_choices_for_a_fold_do_not_see_its_labels():
    rng = np.random.default_rng(3)
    labels = rng.random((60, 2)) < 0.4
    logits = 3 * labels + rng.normal(scale=2.0, size=labels.shape)
    first = np.arange(60) < 30
    parts = {
        fold: replace(
            part(*(f"{name:02}" for name in np.flatnonzero(own))), scores=logits[own], labels=labels[own] * 1.0
        )
        for fold, own in ((1, first), (2, ~first))
    }
    changed = {**parts, 1: replace(parts[1], labels=1.0 - parts[1].labels)}
    (scores, decided), (other, otherwise) = (
        cross_fitted(pool(one), method="temperature", strength=20.0) for one in (parts, changed)
    )
    np.testing.assert_array_equal(scores.probabilities[first], other.probabilities[first])
    expected = fit_temperature(parts[2]).probabilities(parts[1].logits)
    np.testing.assert_allclose(scores.probabilities[first], expected)
    assert not np.allclose(scores.probabilities[~first], other.probabilities[~first])
    for policy in POLICIES:
        np.testing.assert_array_equal(decided[policy][first], otherwise[policy][first])
