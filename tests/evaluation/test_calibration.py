import numpy as np
import pytest
from evaluation_helpers import labelled, labelled_logits
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from trainer.core.errors import DataError, SettingsError
from trainer.evaluation.calibration import (
    IDENTITY,
    Calibration,
    brier_score,
    calibration_scores,
    expected_calibration_error,
    likely_calibration_error,
    negative_log_likelihood,
    reliability_curve,
)


def drawn(calibration=IDENTITY, *, seed=0):
    """Logits (4000, 5) of which this is the calibration, and labels drawn with the calibrated probabilities."""
    rng = np.random.default_rng(seed)
    calibrated = rng.normal(-1.0, 2.0, (4000, 5))
    logits = calibration.temperature * (calibrated - calibration.bias)
    return logits, (rng.random(calibrated.shape) < expit(calibrated)).astype(np.float32)


def test_unobserved_cells_may_hold_anything():
    logits, labels = drawn(Calibration(temperature=2.0))
    observed = np.random.default_rng(1).random(labels.shape) < 0.5
    spoiled = np.where(observed, logits, np.inf), np.where(observed, labels, np.nan), observed
    calibration = Calibration(temperature=1.5, bias=-0.5)
    found = calibration_scores(labelled_logits(*spoiled), calibration)
    assert found == calibration_scores(labelled_logits(logits, labels, observed), calibration)
    alone = labelled_logits(logits[observed][:, None], labels[observed][:, None])
    assert found == pytest.approx(calibration_scores(alone, calibration))


@settings(max_examples=30, deadline=None, database=None)
@given(st.floats(-800, 800), st.floats(0.05, 20), st.floats(-20, 20))
def test_probabilities_are_exact_in_both_tails(logit, temperature, bias):
    value = Calibration(temperature=temperature, bias=bias).probabilities(np.array([[logit]]))[0, 0]
    assert value == pytest.approx(float(expit(logit / temperature + bias)), rel=1e-13, abs=1e-300)


def test_probabilities_do_not_overflow_and_keep_the_shape():
    extreme = np.array([[-1e6, 0.0, 1e6]], dtype=np.float32)
    probabilities = Calibration(temperature=0.05).probabilities(extreme)
    np.testing.assert_array_equal(probabilities, [[0.0, 0.5, 1.0]])
    assert probabilities.dtype == np.float64


def test_a_calibration_of_an_older_version_has_no_bias():
    assert Calibration.of({"method": "temperature", "temperature": 0.9}) == Calibration(temperature=0.9, bias=0.0)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_temperature(temperature):
    with pytest.raises(ValueError, match="`temperature` must be a positive number"):
        Calibration(temperature=temperature)


def test_bad_bias_and_logits():
    with pytest.raises(ValueError, match="`bias` must be a finite number, got nan"):
        Calibration(bias=float("nan"))
    with pytest.raises(DataError, match="`logits` must be finite, got 1"):
        IDENTITY.probabilities(np.array([[np.nan]]))
    with pytest.raises(DataError, match="`logits` must be finite, got inf for example 0, label 1"):
        labelled_logits(np.array([[0.0, np.inf]]), np.array([[0, 1]]))


def test_scores_equal_scikit_learn():
    logits, labels = drawn(Calibration(temperature=0.5))
    probabilities = IDENTITY.probabilities(logits)
    flat_labels, flat = labels.ravel(), probabilities.ravel()
    assert brier_score(labelled(probabilities, labels)) == pytest.approx(brier_score_loss(flat_labels, flat))
    assert negative_log_likelihood(labelled_logits(logits, labels)) == pytest.approx(log_loss(flat_labels, flat))
    rates, means = calibration_curve(flat_labels, flat, n_bins=15)
    curve = reliability_curve(labelled(probabilities, labels))
    np.testing.assert_allclose(curve.observed_rates, rates)
    np.testing.assert_allclose(curve.mean_probabilities, means)
    assert curve.counts.sum() == labels.size
    expected = np.sum(curve.counts * np.abs(rates - means)) / labels.size
    assert expected_calibration_error(labelled(probabilities, labels)) == pytest.approx(expected)


def test_calibration_error_by_hand():
    probabilities = np.array([[0.1, 0.2], [0.9, 1.0]])
    labels = np.array([[0, 1], [1, 1]])
    curve = reliability_curve(labelled(probabilities, labels), bins=2)
    np.testing.assert_allclose(curve.mean_probabilities, [0.15, 0.95])
    np.testing.assert_allclose(curve.observed_rates, [0.5, 1.0])
    np.testing.assert_array_equal(curve.counts, [2, 2])
    assert expected_calibration_error(labelled(probabilities, labels), bins=2) == pytest.approx((0.35 + 0.05) / 2)


def test_empty_bins_are_left_out_and_soft_labels_are_rates():
    curve = reliability_curve(labelled([[0.0], [1.0]], [[0.25], [0.75]]))
    np.testing.assert_array_equal(curve.mean_probabilities, [0.0, 1.0])
    np.testing.assert_array_equal(curve.observed_rates, [0.25, 0.75])
    with pytest.raises(SettingsError, match="`bins` must be at least 1"):
        reliability_curve(labelled([[0.0]], [[0.0]]), bins=0)


def test_the_error_of_likely_cells_is_not_hidden_by_the_easy_ones():
    """900 cells are rightly near 0; of 100 that should be positive in 80 cases, 30 are."""
    probabilities = np.r_[np.full(900, 0.001), np.full(100, 0.8)][:, None]
    labels = np.r_[np.zeros(900), np.ones(30), np.zeros(70)][:, None]
    scores = labelled(probabilities, labels)
    assert expected_calibration_error(scores) == pytest.approx(0.1 * 0.5 + 0.9 * 0.001)
    assert likely_calibration_error(scores) == pytest.approx(0.5)


def test_the_error_of_likely_cells_is_absent_without_such_a_cell():
    assert likely_calibration_error(labelled(np.zeros((3, 2)), np.eye(3, 2))) is None
    assert set(calibration_scores(labelled_logits(np.full((3, 2), -9.0), np.eye(3, 2)))) == {"ece", "brier", "nll"}
