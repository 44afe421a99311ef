import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from trainer.core.errors import DataError, SettingsError
from trainer.evaluation.intervals import RESAMPLING_METHODS, interval_ends, resampled_intervals
from trainer.evaluation.resampling import Resampling

MANY = Resampling(num_resamples=4000, seed=3)
VALUES = np.random.default_rng(0).lognormal(size=(40, 2))


def means(counts):
    return counts @ VALUES / counts.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("method", ["percentile", "basic", "bca"])
def test_intervals_agree_with_scipy(method):
    low, high = resampled_intervals(means, len(VALUES), method, MANY)
    for column in (0, 1):
        expected = scipy_bootstrap(
            (VALUES[:, column],), np.mean, n_resamples=4000, method=method, rng=np.random.default_rng(1)
        ).confidence_interval
        spread = expected.high - expected.low
        assert (low[column], high[column]) == pytest.approx(tuple(expected), abs=0.05 * spread)


def test_bca_of_given_resamples_equals_scipy():
    # The same resamples: scipy takes them from an earlier result.
    first = scipy_bootstrap((VALUES[:, 0],), np.mean, n_resamples=500, method="BCa", rng=np.random.default_rng(1))
    drawn = first.bootstrap_distribution[:, None]
    left_out = ((VALUES[:, 0].sum() - VALUES[:, 0]) / (len(VALUES) - 1))[:, None]
    low, high = interval_ends("bca", VALUES[:, :1].mean(axis=0), drawn, 0.95, left_out=left_out)
    assert (low[0], high[0]) == pytest.approx(tuple(first.confidence_interval))


def test_standard_error_is_that_of_the_normal_distribution():
    low, high = resampled_intervals(means, len(VALUES), "standard_error", MANY)
    assert (low + high) / 2 == pytest.approx(VALUES.mean(axis=0))
    assert high - low == pytest.approx(2 * 1.96 * VALUES.std(axis=0) / np.sqrt(len(VALUES)), rel=0.05)


def test_undefined_resamples_do_not_count():
    drawn = np.array([[1.0, np.nan], [2.0, 5.0], [3.0, 5.0]])
    for method in RESAMPLING_METHODS:
        low, high = interval_ends(method, np.array([2.0, 5.0]), drawn, 0.5, left_out=drawn)
        assert (low[1], high[1]) == (5.0, 5.0)
        assert low[0] < 2.0 < high[0]


def test_wrong_input_is_refused():
    with pytest.raises(SettingsError, match="`method` must be one of percentile"):
        interval_ends("t", np.zeros(1), np.zeros((2, 1)), 0.95)
    with pytest.raises(DataError, match="2 examples"):
        resampled_intervals(lambda counts: counts, 1, "bca", MANY)


@pytest.mark.parametrize("method", ["percentile", "basic"])
def test_a_score_that_no_resample_defines_has_no_ends(method):
    drawn = np.array([[1.0, np.nan], [3.0, np.nan]])

    low, high = interval_ends(method, np.array([2.0, np.nan]), drawn, 0.5)

    assert np.isnan([low[1], high[1]]).all()
    assert np.isfinite([low[0], high[0]]).all()
