"""The evaluation of one model on splits where something is missing: every number exists or is absent."""

import math

import numpy as np
import pytest
from evaluation_helpers import labelled_logits

from trainer.core.errors import DataError
from trainer.evaluation.bootstrap import Resampling
from trainer.evaluation.calibration import IDENTITY, calibrate
from trainer.evaluation.evaluation import (
    Decisions,
    add_test,
    check_dev,
    evaluate_dev,
    evaluate_predictions,
    validation_metrics,
)
from trainer.evaluation.thresholds import predict


def drawn(num_examples=60, num_labels=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random((num_examples, num_labels)) < 0.3
    return 3 * labels - 2 + rng.normal(size=labels.shape), labels.astype(np.float64)


def evaluate(dev, test, **changes):
    choices = {"calibration": "auto", "policy": "auto", "folds": 5, "seed": 0} | changes
    return add_test(evaluate_dev(labelled_logits(*dev), **choices), labelled_logits(*test), resamples=100, seed=0)


def without(label, logits, labels):
    changed = labels.copy()
    changed[:, label] = 0
    return logits, changed


def numbers(evaluation):
    scores = list(evaluation.metrics().values())
    scores += [value for rows in evaluation.per_label.values() for row in rows for value in row.values()]
    return [value for value in scores if isinstance(value, float)]


@pytest.mark.parametrize(
    ("dev", "test"),
    [
        (drawn(), drawn(seed=1)),
        (without(1, *drawn()), drawn(seed=1)),
        (drawn(), without(1, *drawn(seed=1))),
        (drawn(), drawn(num_examples=1, seed=1)),
        (drawn(num_examples=5), drawn(seed=1)),
        (drawn(num_labels=1), drawn(num_labels=1, seed=1)),
        (drawn(num_labels=2), drawn(num_labels=2, seed=1)),
        ((np.zeros((60, 3)), drawn()[1]), drawn(seed=1)),
        ((drawn()[0], np.ones((60, 3))), drawn(seed=1)),
        (drawn(), (drawn(seed=1)[0], np.zeros((60, 3)))),
    ],
    ids=[
        *("whole", "label absent from dev", "label absent from test", "one test example", "five dev examples"),
        *("one label", "two labels", "equal logits", "all labels always in dev", "no label in test"),
    ],
)
def test_numbers_are_finite_and_intervals_hold_the_score(dev, test):
    evaluation = evaluate(dev, test)
    assert all(map(math.isfinite, numbers(evaluation)))
    for policy, intervals in evaluation.intervals.items():
        for name, (low, high) in intervals.headline.items():
            assert 0 <= low <= evaluation.test[policy][name] <= high <= 1
            assert high - low > 0.01
    for thresholds in evaluation.thresholds.values():
        assert ((thresholds >= 0) & (thresholds <= 1)).all()


def test_contradicting_labels_of_equal_texts_are_calibrated_to_their_rate():
    """The same logits with both labels, as two people may have given them."""
    logits, labels = np.full((40, 1), 4.0), np.repeat([[0.0], [1.0]], 20, axis=0)
    evaluation = evaluate((logits, labels), (logits, labels))
    assert evaluation.calibration.probabilities(np.array([4.0]))[0] == pytest.approx(0.5, abs=0.05)
    assert evaluation.test["fixed"]["ece"] < 0.05


def test_a_dev_split_whose_labels_are_all_alike_is_not_calibrated_and_the_reason_is_kept():
    logits, _ = drawn()
    evaluation = evaluate_dev(
        labelled_logits(logits, np.ones(logits.shape)), calibration="platt", policy="auto", folds=5, seed=0
    )
    assert evaluation.calibration == IDENTITY
    assert evaluation.calibration_choice.reason == "every label of every example is positive"


def test_a_dev_split_without_a_positive_is_refused():
    with pytest.raises(DataError, match="no positive"):
        check_dev(np.zeros((10, 2)), np.ones((10, 2), dtype=bool), folds=5)
    with pytest.raises(DataError, match=r"at least 5 labelled examples .* got 1"):
        check_dev(np.ones((1, 2)), np.ones((1, 2), dtype=bool), folds=5)


def test_calibration_on_dev_is_reported_out_of_fold():
    dev = drawn(num_examples=30)
    evaluation = evaluate(dev, drawn(seed=1), calibration="platt")
    errors = evaluation.calibration_errors["dev"]
    assert evaluation.dev["nll"] == errors["after"]["nll"] != errors["before"]["nll"]
    in_sample = evaluate(dev, dev, calibration="platt").calibration_errors["test"]["after"]["nll"]
    assert errors["after"]["nll"] > in_sample


def test_dev_nll_of_training_is_that_of_the_logits():
    logits, labels = drawn()
    probabilities = 1 / (1 + np.exp(-logits))
    expected = -(labels * np.log(probabilities) + (1 - labels) * np.log(1 - probabilities)).mean()
    assert validation_metrics(labelled_logits(logits, labels), seed=0)["nll"] == pytest.approx(expected)


def test_predictions_made_elsewhere_score_as_those_of_the_evaluation_itself():
    """What `evaluate` measures of a model's probabilities equals what its training measured of its logits."""
    own = evaluate(drawn(), drawn(seed=1))
    scores = calibrate(labelled_logits(*drawn(seed=1)), own.calibration)
    decisions = Decisions(
        predictions={name: predict(scores.probabilities, at) for name, at in own.thresholds.items()},
        thresholds=own.thresholds,
        policy=own.policy,
    )
    measured = evaluate_predictions(scores, decisions, resampling=Resampling(num_resamples=100, seed=0))

    found, expected = measured.test_metrics(), own.test_metrics()
    assert {name: found.pop(name) for name in expected} == pytest.approx(expected)
    averages = [f"{over}_{kind}" for over in ("macro", "micro", "weighted") for kind in ("precision", "recall")]
    more = {*averages, "weighted_f1", "macro_ap", "ece", "brier"}
    assert set(found) == {f"test/{name}_{end}" for name in more for end in ("low", "high")}
    for policy, intervals in own.intervals.items():
        assert measured.intervals[policy].headline.items() >= intervals.headline.items()
        assert measured.intervals[policy].per_label == intervals.per_label
    assert measured.per_label["test"] == own.per_label["test"]
    assert measured.dev == {}
