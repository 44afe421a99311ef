"""The calibration gap of each label."""

import numpy as np
import pytest
from evaluation_helpers import labelled
from statsmodels.stats.proportion import proportion_confint

from trainer.evaluation.label_calibration import calibration_gaps


def test_the_gap_is_mean_probability_minus_fraction_among_likely_examples():
    probabilities = np.array([[0.8, 0.3], [0.6, 0.05], [0.4, 0.05], [0.05, 0.05]])
    labels = np.array([[1, 0], [0, 0], [0, 1], [1, 0]])
    first, second = calibration_gaps(labelled(probabilities, labels))
    low, high = proportion_confint(1, 3, method="wilson")
    assert first == {
        "likely": 3,
        "calibration_gap": pytest.approx(0.6 - 1 / 3),
        "calibration_gap_low": pytest.approx(0.6 - high),
        "calibration_gap_high": pytest.approx(0.6 - low),
    }
    assert (second["likely"], second["calibration_gap"]) == (1, pytest.approx(0.3))


def test_a_label_without_a_likely_annotated_example_has_no_gap():
    probabilities, labels = np.array([[0.1, 0.9], [0.02, 0.9]]), np.array([[1, 1], [0, 0]])
    observed = np.array([[True, False], [True, False]])
    rows = calibration_gaps(labelled(probabilities, labels, observed))
    assert rows == [{"likely": 0, "calibration_gap": None}] * 2


def test_the_interval_of_calibrated_probabilities_contains_no_gap():
    rng = np.random.default_rng(0)
    probabilities = rng.beta(0.5, 2, size=(400, 200))
    rows = calibration_gaps(labelled(probabilities, rng.random(probabilities.shape) < probabilities))
    assert np.mean([row["calibration_gap_low"] <= 0 <= row["calibration_gap_high"] for row in rows]) >= 0.95
