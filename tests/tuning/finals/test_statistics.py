"""Finals are ranked by mean, with intervals that are Student's, and missing seeds are held against a trial."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tuning.finals.statistics import FinalRun, paired_difference, rank, t_interval


def runs(**scores):
    """t3=(0.5, None): trial 3 with seeds 1 and 2."""
    return [
        FinalRun(trial=int(name[1:]), seed=seed, score=score, run_id=f"{name}-{seed}")
        for name, values in scores.items()
        for seed, score in enumerate(values, start=1)
    ]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-6))
def test_intervals_are_those_of_scipy(values):
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))

    assert t_interval(values) == pytest.approx(expected)


def test_paired_interval_is_that_of_scipys_paired_test():
    first, second = rank(runs(t1=(0.50, 0.53, 0.55), t2=(0.49, 0.50, 0.54)))

    gap = paired_difference(first, second)

    expected = stats.ttest_rel([0.50, 0.53, 0.55], [0.49, 0.50, 0.54]).confidence_interval(0.95)
    assert gap.interval == pytest.approx((expected.low, expected.high))
    assert gap.mean == pytest.approx(0.05 / 3)


def test_the_interval_of_a_score_stays_between_0_and_1():
    assert rank(runs(t1=(0.99, 0.997)))[0].interval[1] == 1.0
    assert rank(runs(t1=(0.01, 0.003)))[0].interval[0] == 0.0
    assert rank(runs(t1=(0.5, 0.5)))[0].interval == (0.5, 0.5)


def test_one_score_has_no_interval():
    assert t_interval([0.5]) is None
    assert rank(runs(t1=(0.5,)))[0].interval is None


def test_trials_are_ranked_by_mean_and_ties_by_number():
    ranked = rank(runs(t9=(0.5, 0.6), t4=(0.6, 0.5), t2=(0.5, 0.5), t7=(0.6, 0.6)))

    assert [one.trial for one in ranked] == [7, 4, 9, 2]


def test_a_missing_seed_ranks_after_the_complete():
    ranked = rank(runs(t1=(0.9, None), t2=(0.5, 0.5), t3=(None, None)))

    assert [one.trial for one in ranked] == [2, 1, 3]
    assert [one.missing for one in ranked] == [(), (2,), (1, 2)]
    assert ranked[2].mean is None


def test_a_later_score_replaces_an_earlier_one_but_not_by_nothing():
    again = [FinalRun(trial=1, seed=1, score=score, run_id="r") for score in (0.4, 0.5, None)]

    assert rank(again)[0].scores == {1: 0.5}
    assert rank(again)[0].missing == ()


def test_trials_without_a_common_seed_have_no_paired_difference():
    first, second = rank(runs(t1=(0.5, None), t2=(None, 0.4)))

    assert paired_difference(first, second) is None
