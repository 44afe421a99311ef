"""What is predicted where a label is missed."""

import numpy as np
from evaluation_helpers import labelled

from trainer.evaluation.confusions import replacements


def test_wrong_labels_are_counted_where_a_label_is_missed():
    labels = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 1]])
    predictions = np.array([[0, 1, 0], [0, 1, 1], [0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 0, 0]], dtype=bool)
    found = replacements(labelled(labels / 2, labels), predictions)
    assert found.misses.tolist() == [4, 0, 1]
    # Of example 3 label 1 is predicted and right: no column.
    assert found.instead.tolist() == [[0, 2, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert found.fractions[0].tolist() == [0, 0.5, 0.25, 0.25]
    assert found.fractions[1].tolist() == [0, 0, 0, 0]


def test_cells_without_annotation_are_neither_missed_nor_wrong():
    labels = np.array([[1, 0], [1, 0]])
    observed = np.array([[True, False], [False, True]])
    found = replacements(labelled(labels / 2, labels, observed), np.array([[0, 1], [0, 1]], dtype=bool))
    assert found.misses.tolist() == [1, 0]
    assert found.instead.tolist() == [[0, 0, 1], [0, 0, 0]]
