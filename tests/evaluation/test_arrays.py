import numpy as np
import pytest
from evaluation_helpers import labelled, labelled_logits

from trainer.core.errors import DataError


def test_arrays_are_double_and_unobserved_labels_zero():
    observed = np.array([[True, False], [True, True]])
    scores = labelled(np.full((2, 2), 0.5, np.float32), [[1.0, np.nan], [0.4, 0.5]], observed)
    assert (scores.scores.dtype, scores.labels.dtype) == (np.float64, np.float64)
    np.testing.assert_array_equal(scores.labels, [[1, 0], [0.4, 0.5]])
    np.testing.assert_array_equal(scores.positives, [[True, False], [False, True]])
    np.testing.assert_array_equal(scores.support, [1, 1])
    assert (scores.num_examples, scores.num_labels) == (2, 2)


def test_parts_are_not_validated_again():
    scores = labelled(np.full((3, 2), 0.5), np.ones((3, 2)))
    part = scores.take(np.array([True, False, True]))
    assert part.labels.shape == (2, 2)
    assert scores.take_label(1).label_names == ("label 1",)
    assert scores.take_label(1).labels.shape == (3, 1)
    assert scores.num_examples == 3


def test_kinds_of_scores_are_not_confused():
    logits = labelled_logits([[-3.0, 7.0]], [[0, 1]])
    with pytest.raises(TypeError, match="probabilities"):
        _ = logits.probabilities
    with pytest.raises(TypeError, match="logits"):
        _ = labelled([[0.5]], [[1]]).logits


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": np.full((2, 1), 0.5)}, "`probabilities` must have the shape"),
        ({"scores": np.array([[0.5, np.nan], [0.1, 0.2]])}, r"`probabilities` .* example 0, label 1"),
        ({"scores": np.array([[0.5, 0.5], [1.5, 0.2]])}, "`probabilities` .* got 1.5"),
        ({"scores": np.array([[0.5, 0.5], [np.inf, 0.2]]), "kind": "logits"}, "`logits` must be finite, got inf"),
        ({"labels": np.array([[0.5, 0.5], [-1, 0.2]])}, "`labels` .* got -1.0"),
        ({"labels": np.zeros((0, 2))}, r"`labels` .* got shape \(0, 2\)"),
        ({"observed": np.ones((2, 2))}, "`observed` must be boolean, got float64"),
        ({"observed": np.ones((2, 1), dtype=bool)}, "`observed` must have the shape"),
        ({"observed": np.zeros((2, 2), dtype=bool)}, "`observed` must be true"),
        ({"names": ("joy",)}, "`label_names` .* got 1 for 2 labels"),
        ({"names": ("joy", "joy")}, "`label_names` must be distinct, got joy"),
    ],
)
def test_bad_input_is_named(changes, message):
    arrays = {"scores": np.full((2, 2), 0.5), "labels": np.ones((2, 2)), "observed": np.ones((2, 2), dtype=bool)}
    labelled(**arrays)
    with pytest.raises(DataError, match=message):
        labelled(**arrays | changes)
