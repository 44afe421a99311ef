import numpy as np
import pytest
from evaluation_helpers import labelled
from sklearn.metrics import f1_score

from tests.benchmarks.intervals import Population, coverage
from trainer.core.errors import DataError, SettingsError
from trainer.evaluation import resampling as resampling_module
from trainer.evaluation.bootstrap import Resampling, bootstrap_intervals, paired_standard_error
from trainer.evaluation.comparison import System, compare_systems

FEW = Resampling(num_resamples=200, seed=1)


def split(seed=0, num_rows=150, error=0.1):
    rng = np.random.default_rng(seed)
    labels = rng.random((num_rows, 4)) < np.array([0.5, 0.3, 0.05, 0.4])
    return labels ^ (rng.random(labels.shape) < error), labels


def intervals_of(predictions, labels, observed=None, resampling=FEW):
    return bootstrap_intervals(labelled(np.zeros(labels.shape), labels, observed), predictions, resampling)


def difference_of(first, second, labels, observed=None, resampling=FEW):
    systems = [System(name=name, predictions={0: one}) for name, one in (("a", first), ("b", second))]
    scores = labelled(np.zeros(labels.shape), labels, observed)
    (pair,) = compare_systems(scores, systems, planned=[("a", "b")], resampling=resampling).pairs
    return pair


def test_scores_lie_inside_and_supported_labels_are_those_with_forty_positives():
    predictions, labels = split()
    supported = labels.sum(axis=0) >= 40
    assert supported.tolist() == [True, True, False, True]
    headline = intervals_of(predictions, labels).headline
    for name, columns in (("macro_f1", slice(None)), ("macro_f1_supported", supported)):
        low, high = headline[name]
        assert 0 <= low < f1_score(labels[:, columns], predictions[:, columns], average="macro") < high <= 1
    low, high = headline["micro_f1"]
    assert low < f1_score(labels, predictions, average="micro") < high
    assert "macro_f1_supported" not in intervals_of(predictions[:40], labels[:40]).headline


@pytest.mark.parametrize(
    ("population", "size"),
    [(Population.make(1), 1000), (Population.blind_to_rare(1), 224), (Population.strong(), 224)],
    ids=["mixed", "blind to rare labels", "strong"],
)
def test_macro_f1_intervals_cover_the_population_although_labels_are_rare(population, size):
    """Percentiles of resampled F1 cover 0 to 75 % of these populations."""
    found = coverage(population, size, 50, resampling=FEW)
    assert found["macro F1"] >= 90
    assert found["paired difference"] >= 86
    assert found["F1 by label"] >= 90


def test_few_positives_never_look_certain():
    labels = np.zeros((300, 3), dtype=bool)
    labels[:3, 0] = labels[:10, 1] = True
    predictions = np.zeros_like(labels)
    predictions[:10, 1] = True
    none_right, all_right, nothing = intervals_of(predictions, labels).per_label
    assert none_right[0] == 0.0
    assert none_right[1] > 0.5
    assert all_right[0] < 0.9
    assert all_right[1] == 1.0
    assert nothing is None


def test_one_example_gives_a_wide_interval_around_the_score():
    labels = np.array([[True, False, False]])
    low, high = intervals_of(labels, labels).headline["macro_f1"]
    assert low <= 1 / 3 <= high
    assert high - low > 0.3


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
    monkeypatch.setattr(resampling_module, "_CHUNK_CELLS", rows_per_chunk * len(labels))
    chunked = intervals_of(predictions, labels)
    for name, interval in expected[0].headline.items():
        assert chunked.headline[name] == pytest.approx(interval)
    pair = difference_of(predictions, labels, labels)
    assert (pair.low, pair.high) == pytest.approx((expected[1].low, expected[1].high))
    assert pair.p_permutation == expected[1].p_permutation


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
    assert intervals.headline["macro_f1"] == pytest.approx(only_scored.headline["macro_f1"], abs=0.02)
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
    assert result.p_value < 0.001
    mirrored = difference_of(bad, good, labels)
    assert (mirrored.low, mirrored.high) == pytest.approx((-result.high, -result.low))
    assert mirrored.p_value == pytest.approx(result.p_value)


def test_a_model_does_not_differ_from_itself():
    predictions, labels = split()
    result = difference_of(predictions, predictions, labels)
    assert (result.difference, result.low, result.high, result.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_the_standard_error_is_that_of_the_resampled_difference():
    first, labels = split(seed=0, num_rows=100, error=0.1)
    second = labels ^ (np.random.default_rng(9).random(labels.shape) < 0.2)
    scores = labelled(np.zeros(labels.shape), labels)
    rows = np.random.default_rng(FEW.seed).integers(100, size=(200, 100))
    gaps = [
        np.mean([f1_score(labels[r], p[r], average="macro", zero_division=0) * sign for p, sign in signed]) * 2
        for r in rows
        for signed in [((first, 1), (second, -1))]
    ]
    expected = np.std(gaps, ddof=1)
    assert paired_standard_error(scores, [(first, second)], FEW) == pytest.approx(expected)
    assert paired_standard_error(scores, [(first, second)] * 2, FEW) == pytest.approx(expected)
    assert paired_standard_error(scores, [(first, second), (second, first)], FEW) == pytest.approx(0.0, abs=1e-12)
    assert paired_standard_error(scores, [(first, first)], FEW) == 0.0


def test_equal_models_rarely_differ_significantly():
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
