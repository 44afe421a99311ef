import numpy as np
import pytest
from evaluation_helpers import labelled
from sklearn.metrics import f1_score, precision_score, recall_score

from trainer.core.errors import DataError
from trainer.evaluation import calibration, metrics
from trainer.evaluation.averages import METRICS
from trainer.evaluation.bootstrap import bootstrap_intervals
from trainer.evaluation.intervals import RESAMPLING_METHODS, resampled_intervals
from trainer.evaluation.paired import RunCounts
from trainer.evaluation.resampled_scores import DecisionStatistic, F1Statistic, headline_intervals
from trainer.evaluation.resampling import Resampling, resamples

FEW = Resampling(num_resamples=60, seed=1)
_SCIKIT = {"f1": f1_score, "precision": precision_score, "recall": recall_score}


@pytest.fixture(scope="module")
def case():
    """Scores with equal ones among them, labels of which one is rare, and predictions."""
    rng = np.random.default_rng(0)
    truth = rng.random((50, 3)) < (0.5, 0.3, 0.06)
    scores = np.round(np.clip(0.3 + 0.3 * truth + rng.normal(0, 0.25, truth.shape), 0, 1), 1)
    return labelled(scores, truth), scores >= 0.5


def drawn_again(scores, counts):
    """The examples of one resample, as a plain loop would take them."""
    rows = np.repeat(np.arange(len(counts)), counts.astype(int))
    return rows, scores.take(rows)


def test_every_average_equals_scikit_learn_on_each_resample(case):
    scores, predictions = case
    statistic = DecisionStatistic(RunCounts.of(scores, [predictions]), scores.support >= 40)
    for counts in resamples(50, Resampling(num_resamples=5)):
        for weights, values in zip(counts, statistic(counts), strict=True):
            rows, again = drawn_again(scores, weights)
            for name, value in zip(METRICS, values, strict=True):
                over, _, kind = name.partition("_")
                expected = _SCIKIT[kind](again.positives, predictions[rows], average=over, zero_division=0)
                assert value == pytest.approx(expected), name


@pytest.mark.parametrize("method", ["bayesian", *RESAMPLING_METHODS])
def test_every_headline_score_has_an_interval_around_it(case, method):
    scores, predictions = case
    found = headline_intervals(scores, predictions, FEW, method=method)
    expected = metrics.headline(scores, predictions)
    assert set(found) == {*METRICS, "macro_ap", "ece", "brier"}
    for name, (low, high) in found.items():
        assert 0 <= low <= high <= 1
        if name != "ece":
            assert low - 0.1 < expected[name] < high + 0.1, name


def test_threshold_free_scores_equal_a_plain_loop(case):
    scores, predictions = case
    low, high = (np.array(ends) for ends in zip(*_percentiles(scores).values(), strict=True))
    found = headline_intervals(scores, predictions, FEW, method="percentile")
    assert (low[0], high[0]) == pytest.approx(found["macro_ap"])
    assert (low[1], high[1]) == pytest.approx(found["brier"])
    basic = 2 * calibration.expected_calibration_error(scores) - np.array([high[2], low[2]])
    assert tuple(np.clip(basic, 0, 1)) == pytest.approx(found["ece"])


def _percentiles(scores):
    parts = [
        [
            metrics.macro_average_precision(again),
            calibration.brier_score(again),
            calibration.expected_calibration_error(again),
        ]
        for counts in resamples(50, FEW)
        for _, again in (drawn_again(scores, weights) for weights in counts)
    ]
    return {name: np.quantile(column, (0.025, 0.975)) for name, column in zip("abc", np.array(parts).T, strict=True)}


@pytest.mark.parametrize("method", ["bayesian", *RESAMPLING_METHODS])
def test_groups_of_equal_examples_count_once(case, method):
    scores, predictions = case
    twice, groups = np.tile(np.arange(50), 2), np.tile(np.arange(50), 2) + 7
    alone = bootstrap_intervals(scores, predictions, FEW, method=method)
    grouped = bootstrap_intervals(scores.take(twice), predictions[twice], FEW, method=method, groups=groups)
    for name in ("macro_f1", "micro_f1"):
        assert grouped.headline[name] == pytest.approx(alone.headline[name], abs=0.05)  # bayesian: half a case of 100
    unaware = bootstrap_intervals(scores.take(twice), predictions[twice], FEW, method=method).headline["micro_f1"]
    low, high = grouped.headline["micro_f1"]
    assert high - low > 1.2 * (unaware[1] - unaware[0])
    assert len(grouped.per_label) == 3


def test_resampled_f1_has_the_values_of_its_statistic(case):
    scores, predictions = case
    statistic = F1Statistic(RunCounts.of(scores, [predictions]), scores.support >= 40)
    low, high = resampled_intervals(statistic, 50, "percentile", FEW)
    found = bootstrap_intervals(scores, predictions, FEW, method="percentile")
    assert found.headline["macro_f1"] == pytest.approx((low[3], high[3]))
    assert [one[0] for one in found.per_label] == pytest.approx(low[:3])


def test_wrong_groups_are_refused(case):
    scores, predictions = case
    for groups in (np.zeros(3, int), np.zeros(50)):
        with pytest.raises(DataError, match="`groups`"):
            headline_intervals(scores, predictions, FEW, groups=groups)
