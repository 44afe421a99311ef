import math

import pytest

from trainer.core.errors import DataError
from trainer.evaluation.fold_mean import mean_over_folds


def test_the_interval_allows_for_shared_examples():
    found = mean_over_folds([0.5, 0.6, 0.7])
    half = 4.302652729749464 * 0.1 * math.sqrt(1 / 3 + 1 / 2)  # t of 2 degrees of freedom, Nadeau and Bengio's factor
    assert (found.mean, found.sd) == pytest.approx((0.6, 0.1))
    assert (found.low, found.high) == pytest.approx((0.6 - half, 0.6 + half))


def test_an_interval_ends_at_the_ends_of_scores():
    found = mean_over_folds([0.1, 0.9])
    assert (found.low, found.high) == (0.0, 1.0)


def test_one_fold_has_no_interval():
    with pytest.raises(DataError, match="got 1"):
        mean_over_folds([0.5])
