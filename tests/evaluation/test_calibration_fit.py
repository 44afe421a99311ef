import numpy as np
import pytest
from evaluation_helpers import labelled_logits
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from trainer.evaluation.calibration import IDENTITY, Calibration, calibration_scores, negative_log_likelihood
from trainer.evaluation.calibration_fit import (
    METHODS,
    choose_calibration,
    cross_fitted_logits,
    fit_platt,
    fit_temperature,
)
from trainer.evaluation.cross_validation import stratified_folds


def drawn(calibration, *, num_examples=4000, seed=0):
    """Logits of which this is the calibration, with labels drawn with the calibrated probabilities."""
    rng = np.random.default_rng(seed)
    calibrated = rng.normal(-2.0, 2.0, (num_examples, 5))
    logits = calibration.temperature * (calibrated - calibration.bias)
    return labelled_logits(logits, rng.random(calibrated.shape) < expit(calibrated))


def choose(scores, method="auto"):
    return choose_calibration(scores, method, fold_of_example=stratified_folds(scores, seed=0))


@pytest.mark.parametrize("true", [Calibration(temperature=0.4, bias=-1.3), Calibration(temperature=2.5, bias=0.7)])
def test_platt_equals_logistic_regression(true):
    scores = drawn(true)
    found = fit_platt(scores)
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(scores.logits.reshape(-1, 1), scores.labels.ravel())
    assert 1 / found.temperature == pytest.approx(float(reference.coef_[0, 0]), rel=2e-3)
    assert found.bias == pytest.approx(float(reference.intercept_[0]), abs=5e-3)
    assert (found.temperature, found.bias) == pytest.approx((true.temperature, true.bias), rel=0.06)


@pytest.mark.parametrize("fit", [fit_temperature, fit_platt])
def test_the_fit_is_the_minimum(fit):
    scores = drawn(Calibration(temperature=2.0, bias=0.5))
    best = fit(scores)
    loss = negative_log_likelihood(scores, best)
    others = [Calibration(temperature=best.temperature * by, bias=best.bias) for by in (0.97, 1.03)]
    if fit is fit_platt:
        others += [Calibration(temperature=best.temperature, bias=best.bias + by) for by in (-0.05, 0.05)]
    assert all(loss < negative_log_likelihood(scores, other) for other in others)


def test_a_shift_needs_a_bias_and_the_choice_finds_that():
    scores = drawn(Calibration(temperature=0.6, bias=-1.4))
    choice = choose(scores)
    assert choice.method == "platt"
    assert choice.scores["platt"] < choice.scores["temperature"] < choice.scores["none"]
    errors = {name: calibration_scores(scores, fit(scores))["ece_likely"] for name, fit in METHODS.items()}
    assert errors["platt"] < errors["temperature"] / 4


def test_the_simpler_method_is_kept_unless_another_is_better_beyond_a_standard_error():
    assert choose(drawn(Calibration(temperature=2.5))).method == "temperature"
    assert choose(drawn(IDENTITY)).method == "none"
    few = [choose(drawn(Calibration(temperature=1.1, bias=-0.1), num_examples=60, seed=seed)) for seed in range(8)]
    assert [choice.method for choice in few].count("none") >= 5


def test_labels_that_logits_separate_give_a_finite_calibration():
    logits = np.where(np.eye(40, 2) > 0, 5.0, -5.0)
    found = fit_platt(labelled_logits(logits, np.eye(40, 2)))
    positive, negative = found.probabilities(np.array([5.0, -5.0]))
    assert positive == pytest.approx(3 / 4, abs=1e-3)  # (p + 1) / (p + 2) with 2 positives
    assert negative == pytest.approx(1 / 80, abs=1e-3)


@pytest.mark.parametrize("fit", [fit_temperature, fit_platt])
def test_probabilities_keep_the_order_of_logits_that_rank_backwards(fit):
    labels = np.repeat([[1, 0], [0, 1]], 50, axis=0)
    found = fit(labelled_logits(np.where(labels > 0, -3.0, 3.0), labels))
    assert found.temperature == pytest.approx(20.0)


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_labels_that_are_all_alike_change_nothing(value, method):
    choice = choose(labelled_logits(np.random.default_rng(0).normal(size=(10, 2)), np.full((10, 2), value)), method)
    assert (choice.method, choice.calibration) == ("none", IDENTITY)
    assert choice.reason


def test_a_method_that_is_named_is_used():
    scores = drawn(Calibration(temperature=0.6, bias=-1.4))
    for method, fit in METHODS.items():
        choice = choose(scores, method)
        assert (choice.method, choice.calibration, choice.scores) == (method, fit(scores), {})


def test_each_example_is_calibrated_without_its_own_fold():
    scores = drawn(Calibration(temperature=0.6, bias=-1.4), num_examples=200)
    folds = stratified_folds(scores, seed=0)
    found = cross_fitted_logits(scores, "platt", fold_of_example=folds)
    for fold in range(5):
        expected = fit_platt(scores.take(folds != fold)).logits(scores.logits[folds == fold])
        np.testing.assert_array_equal(found.logits[folds == fold], expected)


def test_a_fold_that_leaves_no_positive_is_not_calibrated():
    labels = np.zeros((10, 2))
    labels[0, 0] = 1
    scores = labelled_logits(np.random.default_rng(0).normal(size=(10, 2)), labels)
    folds = stratified_folds(scores, seed=0)
    found = cross_fitted_logits(scores, "platt", fold_of_example=folds)
    np.testing.assert_array_equal(found.logits[folds == folds[0]], scores.logits[folds == folds[0]])
    assert choose(scores).method in METHODS


def test_unobserved_cells_may_hold_anything():
    scores = drawn(Calibration(temperature=2.0), num_examples=300)
    observed = np.random.default_rng(1).random(scores.labels.shape) < 0.5
    logits, labels = scores.logits, scores.labels
    spoiled = labelled_logits(np.where(observed, logits, np.inf), np.where(observed, labels, np.nan), observed)
    assert choose(spoiled) == choose(labelled_logits(logits, labels, observed))
