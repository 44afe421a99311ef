import numpy as np
import pytest
from evaluation_parts import labelled
from sklearn.metrics import f1_score

from trainer.core.errors import DataError, SettingsError
from trainer.evaluation import bootstrap
from trainer.evaluation.bootstrap import Resampling, bootstrap_intervals, paired_bootstrap

FEW = Resampling(num_resamples=200, seed=1)


def split(seed=0, num_rows=150, error=0.1):
    rng = np.random.default_rng(seed)
    labels = rng.random((num_rows, 4)) < np.array([0.5, 0.3, 0.05, 0.4])
    return labels ^ (rng.random(labels.shape) < error), labels


def intervals_of(predictions, labels, observed=None, resampling=FEW):
    return bootstrap_intervals(labelled(np.zeros(labels.shape), labels, observed), predictions, resampling)


def difference_of(first, second, labels, observed=None, resampling=FEW):
    return paired_bootstrap(labelled(np.zeros(labels.shape), labels, observed), first, second, resampling)


def test_equals_scikit_learn_on_the_same_resamples():
    predictions, labels = split(num_rows=40)
    resampling = Resampling(num_resamples=25, seed=3, level=0.8)
    generator = np.random.default_rng(3)
    macro, micro, by_label = [], [], []
    for _ in range(25):
        rows = generator.integers(40, size=40)
        drawn = labels[rows], predictions[rows]
        macro.append(f1_score(*drawn, average="macro", zero_division=0))
        micro.append(f1_score(*drawn, average="micro", zero_division=0))
        by_label.append(f1_score(*drawn, average=None, zero_division=0))
    intervals = intervals_of(predictions, labels, None, resampling)
    assert intervals.headline["macro_f1"] == pytest.approx(tuple(np.quantile(macro, [0.1, 0.9])))
    assert intervals.headline["micro_f1"] == pytest.approx(tuple(np.quantile(micro, [0.1, 0.9])))
    np.testing.assert_allclose(intervals.per_label, np.quantile(by_label, [0.1, 0.9], axis=0).T)
    assert "macro_f1_supported" not in intervals.headline


def test_supported_labels_only():
    predictions, labels = split()
    supported = labels.sum(axis=0) >= 40
    assert supported.tolist() == [True, True, False, True]
    low, high = intervals_of(predictions, labels).headline["macro_f1_supported"]
    assert low < f1_score(labels[:, supported], predictions[:, supported], average="macro") < high


def test_interval_covers_the_true_score_about_as_often_as_it_says():
    truth = f1_score(*split(seed=99, num_rows=200_000)[::-1], average="macro")
    covered = 0
    for seed in range(60):
        low, high = intervals_of(*split(seed)).headline["macro_f1"]
        covered += low <= truth <= high
    assert 50 <= covered <= 60


def test_wider_level_gives_wider_interval():
    predictions, labels = split()
    narrow, wide = (
        intervals_of(predictions, labels, None, Resampling(num_resamples=200, level=level)).headline["macro_f1"]
        for level in (0.5, 0.99)
    )
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize("rows_per_chunk", [1, 7, 200])
def test_chunks_do_not_change_results(monkeypatch, rows_per_chunk):
    predictions, labels = split()
    expected = (
        intervals_of(predictions, labels),
        difference_of(predictions, labels, labels),
    )
    monkeypatch.setattr(bootstrap, "_CHUNK_CELLS", rows_per_chunk * len(labels))
    assert intervals_of(predictions, labels) == expected[0]
    assert difference_of(predictions, labels, labels) == expected[1]


def test_unobserved_cells_may_hold_anything():
    predictions, labels = split()
    other, _ = split(seed=5)
    observed = np.random.default_rng(2).random(labels.shape) < 0.6
    observed[:, 3] = False
    spoiled = np.where(observed, predictions, ~predictions), np.where(observed, labels, np.nan)
    intervals = intervals_of(predictions, labels, observed)
    assert intervals_of(*spoiled, observed) == intervals
    assert intervals.per_label[3] is None
    only_scored = intervals_of(predictions[:, :3], labels[:, :3], observed[:, :3], FEW)
    assert intervals.headline["macro_f1"] == only_scored.headline["macro_f1"]
    assert difference_of(spoiled[0], other, spoiled[1], observed) == difference_of(
        predictions, other, labels, observed, FEW
    )


def test_paired_difference_of_a_clearly_better_model():
    good, labels = split(error=0.02)
    bad = labels ^ (np.random.default_rng(9).random(labels.shape) < 0.3)
    result = difference_of(good, bad, labels)
    expected = f1_score(labels, good, average="macro") - f1_score(labels, bad, average="macro")
    assert result.difference == pytest.approx(expected)
    assert 0 < result.low < result.difference < result.high
    assert result.p_value == pytest.approx(2 / 201)
    mirrored = difference_of(bad, good, labels)
    assert (mirrored.low, mirrored.high) == pytest.approx((-result.high, -result.low))
    assert mirrored.p_value == result.p_value


def test_a_model_does_not_differ_from_itself():
    predictions, labels = split()
    result = difference_of(predictions, predictions, labels)
    assert (result.difference, result.low, result.high, result.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_equal_models_are_rarely_told_apart():
    rng = np.random.default_rng(0)
    false_alarms = 0
    for _ in range(60):
        labels = rng.random((150, 3)) < 0.4
        a, b = (labels ^ (rng.random(labels.shape) < 0.2) for _ in range(2))
        false_alarms += difference_of(a, b, labels).p_value < 0.05
    assert false_alarms <= 8


def test_bad_input_is_named():
    predictions, labels = split()
    with pytest.raises(SettingsError, match="`num_resamples` must be at least 1"):
        Resampling(num_resamples=0)
    with pytest.raises(SettingsError, match="`level` must lie between 0 and 1"):
        Resampling(level=95)
    for wrong in (predictions * 0.5, predictions[:5]):
        with pytest.raises(DataError, match="`predictions` must be boolean"):
            difference_of(predictions, wrong, labels)
