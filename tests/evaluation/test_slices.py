"""Slices: which examples they hold, and their scores."""

import numpy as np
import pytest
from evaluation_helpers import labelled
from sklearn.metrics import f1_score

from trainer.evaluation import slices
from trainer.evaluation.resampling import Resampling

FEW_DRAWS = Resampling(num_resamples=50)


def sizes(slicing):
    counts = np.bincount(slicing.slice_of_example[slicing.slice_of_example >= 0], minlength=len(slicing.slices))
    return dict(zip(slicing.slices, counts.tolist(), strict=True))


def rows_of(scores, predictions, slicing):
    return {row["slice"]: row for row in slices.slice_rows(scores, predictions, slicing, FEW_DRAWS)}


def test_lengths_are_counted_in_words():
    texts = ["one", " two  words\n", "a b c d", "a b c d e", "w " * 8, "w " * 9, "w " * 300, "\u200b"]
    assert sizes(slices.by_length(texts)) == {"1-4": 4, "5-8": 2, "9-16": 1, "257 or more": 1}


def test_examples_are_divided_by_their_annotated_labels():
    labels = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    observed = np.ones(labels.shape, dtype=bool)
    observed[4, 1] = observed[5] = False
    slicing = slices.by_num_labels(labelled(labels / 2, labels, observed))
    assert sizes(slicing) == {"0": 1, "1": 2, "3 or more": 2}
    assert slicing.slice_of_example.tolist() == [0, 1, 2, 2, 1, -1]


def test_each_of_a_few_cells_is_a_slice():
    assert sizes(slices.by_column("source", ["tv", "", "tv", "web"])) == {"tv": 2, "(empty)": 1, "web": 1}


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["tv"] * 60 + ["web"] * 50 + [str(n) for n in range(20)], {"tv": 60, "web": 50, "20 other cells": 20}),
        ([str(n) for n in range(1200)], {"1,200 different cells": 1200}),
        (
            [str(n % 20) for n in range(1200)],
            {str(n): 60 for n in range(11)} | {"9 other cells": 540},
        ),
    ],
)
def test_of_many_cells_the_frequent_ones_are_slices(cells, expected):
    assert sizes(slices.by_column("author", cells)) == expected


def test_scores_of_a_slice_are_those_of_its_examples():
    rng = np.random.default_rng(0)
    labels, predictions = rng.random((90, 3)) < 0.4, rng.random((90, 3)) < 0.5
    places = ["tv"] * 60 + ["web"] * 30
    rows = rows_of(labelled(predictions / 2, labels), predictions, slices.by_column("source", places))
    for name, part in {"tv": slice(0, 60), "web": slice(60, 90)}.items():
        for average in ("macro", "micro"):
            expected = f1_score(labels[part], predictions[part], average=average, zero_division=0)
            row = rows[name]
            assert row[f"{average}_f1"] == pytest.approx(expected)
            assert row[f"{average}_f1_low"] < expected < row[f"{average}_f1_high"]
    assert [rows[name]["few"] for name in ("tv", "web")] == [False, True]
    assert (rows["web"]["slice_by"], rows["web"]["examples"], rows["web"]["labels"]) == ("source", 30, 3)


def test_the_macro_average_of_a_slice_is_over_the_labels_that_occur_in_it():
    labels = np.array([[1, 0], [1, 0], [0, 1]])
    predictions = np.array([[1, 1], [1, 0], [0, 0]], dtype=bool)
    rows = rows_of(labelled(labels / 2, labels), predictions, slices.by_column("source", ["tv", "tv", "web"]))
    assert (rows["tv"]["macro_f1"], rows["tv"]["labels"]) == (1.0, 1)
    assert rows["tv"]["micro_f1"] == pytest.approx(4 / 5)  # with the false positive of the other label
    assert (rows["web"]["macro_f1"], rows["web"]["micro_f1"]) == (0.0, 0.0)


def test_scores_that_do_not_exist_are_absent():
    labels, observed = np.array([[0, 0], [1, 0], [1, 0]]), np.array([[1, 1], [1, 1], [0, 0]], dtype=bool)
    predictions = np.array([[1, 0], [1, 0], [1, 0]], dtype=bool)
    scores = labelled(labels / 2, labels, observed)
    rows = rows_of(scores, predictions, slices.by_column("source", ["none", "some", "unknown"]))
    assert (rows["none"]["macro_f1"], rows["none"]["micro_f1"], rows["none"]["micro_f1_low"]) == (None, None, None)
    assert rows["none"]["subset_accuracy"] == 0.0
    assert rows["some"]["micro_f1"] == 1.0
    assert rows["unknown"]["macro_f1"] is None
    assert "subset_accuracy" not in rows["unknown"]


def test_slicings_of_a_split_begin_with_all_examples():
    labels = np.eye(3)
    found = slices.slicings(labelled(labels, labels), ["a", "b", "c d e f g"], {"source": ["tv", "tv", "web"]})
    assert [(slicing.name, sizes(slicing)) for slicing in found] == [
        ("all", {"all": 3}),
        ("words", {"1-4": 2, "5-8": 1}),
        ("number of labels", {"1": 3}),
        ("source", {"tv": 2, "web": 1}),
    ]


def test_examples_of_a_group_count_together_in_the_intervals():
    rng = np.random.default_rng(0)
    labels, predictions = rng.random((60, 2)) < 0.4, rng.random((60, 2)) < 0.5
    scores, slicing = labelled(predictions / 2, labels), slices.by_column("source", ["tv"] * 60)
    alone, same = (
        slices.slice_rows(scores, predictions, slicing, FEW_DRAWS, groups)[0] for groups in (None, np.arange(60))
    )
    assert alone == same
    doubled = slices.slice_rows(
        labelled(np.repeat(predictions / 2, 2, axis=0), np.repeat(labels, 2, axis=0)),
        np.repeat(predictions, 2, axis=0),
        slices.by_column("source", ["tv"] * 120),
        FEW_DRAWS,
        np.repeat(np.arange(60), 2),
    )[0]
    assert doubled["macro_f1"] == alone["macro_f1"]
    width, wide = (row["micro_f1_high"] - row["micro_f1_low"] for row in (alone, doubled))
    assert wide == pytest.approx(width, rel=0.1)  # the copies add no information


def test_a_slice_of_few_groups_has_no_interval():
    labels = np.ones((40, 1))
    labels[::3] = 0
    groups = np.repeat(np.arange(20), 2)
    slicing = slices.by_column("dialogue", ["a"] * 2 + ["b"] * 38)
    rows = slices.slice_rows(labelled(labels / 2, labels), labels > 2, slicing, FEW_DRAWS, groups)
    assert [(row["slice"], row["macro_f1"], row["macro_f1_low"] is None) for row in rows] == [
        ("b", 0.0, False),
        ("a", 0.0, True),
    ]
