"""Suspected label errors: planted ones are found, and the answers are cleanlab's."""

import numpy as np
import pytest
from evaluation_helpers import labelled

from trainer.evaluation.label_errors import label_quality, suspected_label_errors


def planted(*, num_examples=2000, changed=60):
    """Probabilities of a good model, labels of which some were changed after it, and the changed cells."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(num_examples, 3)) - 1
    probabilities = 1 / (1 + np.exp(-2 * logits))
    labels = rng.random(logits.shape) < probabilities
    clear = np.flatnonzero((np.abs(probabilities - 0.5) > 0.4).ravel())
    wrong = np.zeros(labels.shape, dtype=bool)
    wrong.flat[rng.choice(clear, changed, replace=False)] = True
    return probabilities, labels ^ wrong, wrong


@pytest.fixture(scope="module")
def example():
    probabilities, labels, wrong = planted()
    scores = labelled(probabilities, labels)
    return scores, wrong, suspected_label_errors(scores)


def test_planted_errors_are_found_and_come_first(example):
    scores, wrong, suspected = example
    assert suspected[wrong].mean() > 0.85
    assert suspected.mean() < 0.1
    quality = label_quality(scores)
    first = np.argsort(np.where(suspected, quality, 1.0), axis=None)[:20]
    assert wrong.flat[first].mean() > 0.8


def test_the_answers_are_those_of_cleanlab(example):
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

    scores, _, suspected = example
    given = [np.flatnonzero(row).tolist() for row in scores.positives]
    theirs = find_multilabel_issues_per_class(given, scores.probabilities, filter_by="confident_learning", n_jobs=1)
    assert np.array_equal(suspected, theirs)
    assert np.allclose(label_quality(scores), get_label_quality_scores_per_class(given, scores.probabilities))


def test_cells_without_annotation_change_nothing_and_are_never_suspected(example):
    scores, _, suspected = example
    more = labelled(
        np.vstack([scores.probabilities, np.full((50, 3), np.nan)]),
        np.vstack([scores.labels, np.ones((50, 3))]),
        np.vstack([scores.observed, np.zeros((50, 3), dtype=bool)]),
    )
    assert np.array_equal(suspected_label_errors(more), np.vstack([suspected, np.zeros((50, 3), dtype=bool)]))
    assert np.isnan(label_quality(more)[-50:]).all()


def test_a_label_that_no_example_or_every_example_has_is_left_out():
    labels = np.column_stack([np.zeros(40), np.ones(40), np.arange(40) % 2])
    scores = labelled(np.column_stack([np.full(40, 0.9), np.full(40, 0.1), labels[:, 2] * 0.8 + 0.1]), labels)
    assert not suspected_label_errors(scores).any()


def test_one_positive_is_enough():
    labels = np.zeros((30, 1))
    labels[0] = 1
    probabilities = np.full((30, 1), 0.02)
    probabilities[:2] = [[0.6], [0.9]]
    assert np.flatnonzero(suspected_label_errors(labelled(probabilities, labels))).tolist() == [1]
