"""Scores of resamples equal those of scikit-learn and of our own metrics on the drawn examples."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.calibration import brier_score, expected_calibration_error
from trainer.evaluation.resampled_probabilities import ResampledProbabilities


@pytest.fixture(scope="module")
def scores():
    """Few distinct scores, so that many are equal; cells without a label; a label without a positive."""
    rng = np.random.default_rng(3)
    labels = rng.random((60, 4)) < np.array([0.5, 0.2, 0.05, 0.0])
    return LabelledScores(
        label_names=("a", "b", "c", "d"),
        scores=rng.integers(0, 11, labels.shape) / 10,
        labels=labels,
        observed=rng.random(labels.shape) < 0.9,
    )


def test_each_resample_has_the_scores_of_its_examples(scores):
    rng = np.random.default_rng(4)
    draws = [rng.integers(60, size=60) for _ in range(8)]
    weights = np.array([np.bincount(drawn, minlength=60) for drawn in draws], dtype=float)
    found = ResampledProbabilities.of(scores).scores(np.ascontiguousarray(weights.T))
    for drawn, row in zip(draws, found, strict=True):
        part = scores.take(drawn)
        precision = [
            average_precision_score(part.positives[seen, j], part.probabilities[seen, j])
            for j in range(4)
            if part.support[j]
            for seen in [part.observed[:, j]]
        ]
        expected = (np.mean(precision), expected_calibration_error(part), brier_score(part))
        assert row == pytest.approx(expected, rel=1e-6)


def test_a_resample_without_a_positive_has_no_average_precision(scores):
    weights = np.zeros((60, 1))
    weights[~scores.positives.any(axis=1)] = 1.0
    assert np.isnan(ResampledProbabilities.of(scores).scores(weights)[0, 0])
