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
    TEMPERATURE_BOUNDS,
    apply_temperature,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability_curve,
)


def overconfident(temperature, *, soft, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.0, 2.0, (4000, 5))
    rates = apply_temperature(logits, 1.0)
    return temperature * logits, rates if soft else (rng.random(rates.shape) < rates).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_temperature_is_recovered(temperature):
    assert fit_temperature(labelled_logits(*overconfident(temperature, soft=True))) == pytest.approx(
        temperature, rel=1e-7
    )
    assert fit_temperature(labelled_logits(*overconfident(temperature, soft=False))) == pytest.approx(
        temperature, rel=0.05
    )


def test_temperature_is_the_minimum_and_lowers_the_error():
    logits, labels = overconfident(2.5, soft=False)
    best = fit_temperature(labelled_logits(logits, labels))
    loss = negative_log_likelihood(labelled_logits(logits, labels), best)
    assert all(
        loss < negative_log_likelihood(labelled_logits(logits, labels), other)
        for other in (1.0, best * 1.02, best / 1.02)
    )
    before, after = (expected_calibration_error(labelled(apply_temperature(logits, t), labels)) for t in (1.0, best))
    assert after < before / 5


def test_degenerate_temperatures():
    logits, labels = np.array([[3.0, -2.0], [-1.0, 5.0]]), np.array([[1, 0], [0, 1]])
    assert fit_temperature(labelled_logits(logits, labels)) == TEMPERATURE_BOUNDS[0]
    assert fit_temperature(labelled_logits(-logits, labels)) == TEMPERATURE_BOUNDS[1]
    assert fit_temperature(labelled_logits(np.zeros((2, 2)), labels)) == 1.0


def test_unobserved_cells_may_hold_anything():
    logits, labels = overconfident(2.0, soft=False)
    observed = np.random.default_rng(1).random(labels.shape) < 0.5
    spoiled = np.where(observed, logits, np.inf), np.where(observed, labels, np.nan), observed
    assert fit_temperature(labelled_logits(*spoiled)) == fit_temperature(labelled_logits(logits, labels, observed))
    assert negative_log_likelihood(labelled_logits(*spoiled)) == negative_log_likelihood(
        labelled_logits(logits, labels, observed)
    )
    expected = negative_log_likelihood(labelled_logits(logits[observed][:, None], labels[observed][:, None]))
    assert negative_log_likelihood(labelled_logits(*spoiled)) == pytest.approx(expected)
    probabilities = apply_temperature(logits, 1.0)
    spoiled = np.where(observed, probabilities, np.nan), *spoiled[1:]
    for score in (expected_calibration_error, brier_score):
        assert score(labelled(*spoiled)) == score(labelled(probabilities, labels, observed))
        assert score(labelled(*spoiled)) == pytest.approx(
            score(labelled(probabilities[observed][:, None], labels[observed][:, None]))
        )


@settings(max_examples=30, deadline=None, database=None)
@given(st.floats(-800, 800), st.floats(0.05, 20))
def test_sigmoid_is_exact_in_both_tails(logit, temperature):
    value = apply_temperature(np.array([[logit]]), temperature)[0, 0]
    exact = float(expit(logit / temperature))
    assert value == pytest.approx(exact, rel=1e-14, abs=1e-300)


def test_sigmoid_does_not_overflow_and_keeps_shape():
    extreme = np.array([[-1e6, 0.0, 1e6]], dtype=np.float32)
    probabilities = apply_temperature(extreme, 0.05)
    np.testing.assert_array_equal(probabilities, [[0.0, 0.5, 1.0]])
    assert probabilities.dtype == np.float64


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_temperature(temperature):
    with pytest.raises(SettingsError, match="`temperature` must be a positive number"):
        apply_temperature(np.zeros((1, 1)), temperature)


def test_bad_logits():
    with pytest.raises(DataError, match="`logits` must be finite, got 1"):
        apply_temperature(np.array([[np.nan]]), 1.0)
    with pytest.raises(DataError, match="`logits` must be finite, got inf for example 0, label 1"):
        fit_temperature(labelled_logits(np.array([[0.0, np.inf]]), np.array([[0, 1]])))


def test_scores_equal_scikit_learn():
    logits, labels = overconfident(2.0, soft=False)
    probabilities = apply_temperature(logits, 1.0)
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
