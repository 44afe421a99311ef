import numpy as np
import pytest
from evaluation_helpers import labelled

from trainer.evaluation.bootstrap import Resampling
from trainer.evaluation.calibration import likely_calibration_error
from trainer.evaluation.calibration_bootstrap import likely_error, likely_error_rise

FEW = Resampling(num_resamples=300)


def drawn(seed, *, shift=0.0, num_examples=150):
    """Probabilities that are calibrated where shift is 0, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-2.0, 1.5, (num_examples, 8))
    labels = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    return labelled(1 / (1 + np.exp(-(logits + shift))), labels)


def test_the_value_is_the_error_of_likely_cells():
    first, second = drawn(0, shift=1.0), drawn(0)
    assert likely_error(first, FEW).value == pytest.approx(likely_calibration_error(first))
    gap = likely_calibration_error(first) - likely_calibration_error(second)
    assert likely_error_rise(first, second, FEW).value == pytest.approx(gap)
    assert likely_error_rise(first, first, FEW).low == likely_error_rise(first, first, FEW).high == 0.0


def test_a_calibrated_model_has_an_error_by_chance_and_an_interval_without_it():
    found = [likely_error(drawn(seed), FEW) for seed in range(20)]
    assert np.mean([one.value for one in found]) > 0.03
    assert np.mean([one.low for one in found]) < 0.015
    assert sum(one.low > 0.05 for one in found) == 0
    assert min(one.low for one in found) == 0.0


def test_a_shift_is_found():
    found = likely_error(drawn(0, shift=1.2), FEW)
    assert found.low > 0.1
    assert likely_error_rise(drawn(0, shift=1.2), drawn(0), FEW).low > 0.05


def test_there_is_no_interval_without_a_likely_cell():
    silent = labelled(np.zeros((10, 2)), np.eye(10, 2))
    assert likely_error(silent, FEW) is None
    assert likely_error_rise(silent, drawn(0, num_examples=10), FEW) is None
    assert likely_error_rise(labelled(np.full((10, 2), 0.5), np.eye(10, 2)), silent, FEW) is None


def test_unobserved_cells_may_hold_anything():
    scores = drawn(0)
    observed = np.random.default_rng(1).random(scores.labels.shape) < 0.5
    probabilities = scores.probabilities
    spoiled = labelled(np.where(observed, probabilities, np.nan), scores.labels, observed)
    assert likely_error(spoiled, FEW) == likely_error(labelled(probabilities, scores.labels, observed), FEW)
