import numpy as np
import pytest
from evaluation_helpers import labelled
from scipy.stats import permutation_test, t
from sklearn.metrics import f1_score, precision_score, recall_score

from trainer.evaluation import resampling as resampling_module
from trainer.evaluation.averages import METRICS
from trainer.evaluation.bayesian import mean_interval
from trainer.evaluation.exchange import Exchange
from trainer.evaluation.paired import Estimate, RunCounts, ScoreDraws, pooled_variance
from trainer.evaluation.resampling import Resampling, resamples

FEW = Resampling(num_resamples=200, seed=1)


def case(num_examples=40, runs=4, labels=3, error=0.2, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.random((num_examples, labels)) < 0.4
    return labelled(np.zeros(truth.shape), truth), [truth ^ (rng.random(truth.shape) < error) for _ in range(runs)]


def loop_f1(truth, predictions):
    """F1 of each label and then their mean, cell by cell."""
    labels = []
    for label in range(truth.shape[1]):
        pairs = list(zip(truth[:, label].tolist(), predictions[:, label].tolist(), strict=True))
        hits, errors = pairs.count((True, True)), pairs.count((True, False)) + pairs.count((False, True))
        labels.append(2 * hits / (2 * hits + errors) if hits + errors else 0.0)
    return [*labels, np.mean(labels)]


def test_scores_and_covariances_equal_a_plain_loop():
    scores, predictions = case()
    drawn = []
    for weights in np.concatenate(list(resamples(40, FEW))).astype(int):
        rows = np.repeat(np.arange(40), weights)
        drawn.append([loop_f1(scores.positives[rows], one[rows]) for one in predictions])
    drawn = np.array(drawn)
    found = ScoreDraws.of(RunCounts.of(scores, predictions), "macro_f1", FEW)
    for column in range(4):
        expected = np.cov(drawn[:, :, column].T, bias=True) * 40 / 39
        assert found.covariance[column] == pytest.approx(expected)
    gap = drawn[:, 0, -1] - drawn[:, 2, -1]
    assert found.difference([0], [2]).examples_error == pytest.approx(gap.std() * np.sqrt(40 / 39))


@pytest.mark.parametrize("metric", METRICS)
def test_points_equal_scikit_learn(metric):
    scores, predictions = case()
    average, _, kind = metric.partition("_")
    measure = {"f1": f1_score, "precision": precision_score, "recall": recall_score}[kind]
    point = RunCounts.of(scores, predictions).point(metric)
    assert point[:, -1] == pytest.approx([measure(scores.positives, one, average=average) for one in predictions])
    assert point[0, :-1] == pytest.approx(measure(scores.positives, predictions[0], average=None))


def test_chunks_and_order_of_runs_do_not_change_results(monkeypatch):
    scores, predictions = case()
    expected = ScoreDraws.of(RunCounts.of(scores, predictions), "macro_f1", FEW)
    monkeypatch.setattr(resampling_module, "_CHUNK_CELLS", 300)
    turned = ScoreDraws.of(RunCounts.of(scores, predictions[::-1]), "macro_f1", FEW)
    assert turned.covariance[:, ::-1, ::-1] == pytest.approx(expected.covariance)
    assert turned.difference([3], [1]).interval(0.95) == pytest.approx(expected.difference([0], [2]).interval(0.95))


def test_groups_of_equal_examples_count_once():
    scores, predictions = case()
    twice = np.tile(np.arange(40), 2)
    alone = ScoreDraws.of(RunCounts.of(scores, predictions), "macro_f1", FEW)
    doubled = RunCounts.of(scores.take(twice), [one[twice] for one in predictions], groups=twice)
    assert ScoreDraws.of(doubled, "macro_f1", FEW).covariance == pytest.approx(alone.covariance)
    again = Exchange.of(doubled, [0], [1], "macro_f1", FEW)
    assert again.p_value == Exchange.of(RunCounts.of(scores, predictions), [0], [1], "macro_f1", FEW).p_value


@pytest.mark.parametrize("num_examples", [9, 40])
def test_permutation_agrees_with_scipy(num_examples):
    scores, (a, b, *_) = case(num_examples, error=0.3)
    truth, rows, both = scores.positives, np.arange(num_examples), np.stack([a, b])

    def f1(chosen):
        # scipy exchanges numbers, so a number names the system and the row of a prediction.
        predicted = both[chosen // num_examples, chosen % num_examples]
        return (2 * (predicted & truth).sum(-2) / (predicted.sum(-2) + truth.sum(0))).mean(-1)

    expected = permutation_test(
        (rows, rows + num_examples),
        lambda x, y, axis: f1(x) - f1(y),
        permutation_type="samples",
        n_resamples=5000,
        rng=np.random.default_rng(0),
        vectorized=True,
    ).pvalue
    found = Exchange.of(RunCounts.of(scores, [a, b]), [0], [1], "macro_f1", Resampling(num_resamples=5000))
    assert found.p_value == pytest.approx(expected, abs=1e-9 if num_examples == 9 else 0.03)


def test_p_value_is_the_level_at_which_the_interval_reaches_zero():
    rng = np.random.default_rng(0)
    for seeds in (1, 2, 3, 5):
        by_seed = rng.normal(0.3, 0.4, seeds)
        covariance = 0.02 * np.eye(seeds) + 0.01
        found = Estimate.of(by_seed, covariance, 100)
        low, high = found.interval(1.0 - found.p_value)
        assert min(abs(low), abs(high)) == pytest.approx(0.0, abs=1e-9)


def test_seed_noise_alone_gives_the_t_interval():
    by_seed = np.array([0.1, 0.3, 0.35])
    found = Estimate.of(by_seed, np.zeros((3, 3)), 1000)
    expected = t.interval(0.95, 2, loc=by_seed.mean(), scale=by_seed.std(ddof=1) / np.sqrt(3))
    assert found.interval(0.95) == pytest.approx(expected)


@pytest.mark.parametrize("level", [0.05, 0.005])
@pytest.mark.parametrize(("seeds", "seed_noise"), [(1, 0.0), (2, 1.0), (3, 0.0), (3, 0.5), (3, 3.0), (5, 1.0)])
def test_false_positives_are_as_rare_as_claimed(seeds, seed_noise, level):
    """Noise of seeds, of examples that all seeds share, and of examples that they do not: standard deviation 1 each."""
    assert _shown(seeds, seed_noise, level) <= level + 2 * np.sqrt(level / _SAMPLES)


def test_a_detectable_difference_is_mostly_shown():
    for seeds in (1, 3):
        assert 0.7 <= _shown(seeds, 0.5, 0.05, detectable=True) <= 0.97


_SAMPLES = 1000


def _shown(seeds, seed_noise, level, *, detectable=False):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, seed_noise, (_SAMPLES, seeds)) * (seeds > 1) + rng.normal(0, 1, (_SAMPLES, seeds))
    noise += rng.normal(0, 1, (_SAMPLES, 1))
    found = [Estimate.of(one, np.eye(seeds) + 1.0, 5000) for one in noise]
    gap = np.mean([one.detectable(level) for one in found]) if detectable else 0.0
    ends = np.array([one.interval(1 - level) for one in found]) + gap
    return np.mean((ends[:, 0] > 0) | (ends[:, 1] < 0))


def test_exchanges_vary_more_than_resamples_where_labels_are_rare():
    rng = np.random.default_rng(0)
    truth = rng.random((200, 30)) < 0.01
    runs = [np.where(truth, rng.random(truth.shape) < 0.5, rng.random(truth.shape) < 0.005) for _ in range(2)]
    counts = RunCounts.of(labelled(np.zeros(truth.shape), truth), runs)
    draws = ScoreDraws.of(counts, "macro_f1", FEW)
    exchanged = Exchange.of(counts, [0], [1], "macro_f1", FEW).covariance
    alone, floored = draws.difference([0], [1]), draws.difference([0], [1], -1, exchanged)
    assert floored.examples_error == pytest.approx(np.sqrt(exchanged[-1, 0, 0]))
    assert floored.examples_error > 1.1 * alone.examples_error


def test_effect_size_is_the_standardised_difference_and_its_interval_covers_it():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        size, low, high = Estimate.of(rng.normal(0.8, 1.0, 5), np.zeros((5, 5)), 100).effect_size(0.9)
        assert low < size < high
        covered.append(low <= 0.8 <= high)
    assert 0.86 <= np.mean(covered) <= 0.94


def test_the_pooled_variance_counts_degrees_of_freedom():
    first, second = np.array([0.1, 0.3]), np.array([0.2, 0.25, 0.6])
    found = [Estimate.of(one, np.zeros((len(one), len(one))), 100) for one in (first, second, np.array([0.4]))]
    assert pooled_variance(found) == (pytest.approx((first.var(ddof=1) + 2 * second.var(ddof=1)) / 3), 3)
    assert pooled_variance(found[2:]) == (0.0, 0)


def test_a_mean_interval_may_lie_beside_the_value():
    alone = Estimate.of(np.array([0.03]), np.zeros((1, 1)), 100)
    assert mean_interval([(0.01, 0.02)], alone, 0.95) == pytest.approx((0.01, 0.02))
    assert mean_interval([(0.02, 0.06)], alone, 0.95) == pytest.approx((0.02, 0.06))
