from fractions import Fraction
from typing import get_args, get_type_hints

import numpy as np
import pytest
from evaluation_helpers import fit_policy, labelled
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score, precision_score, recall_score

from trainer.config import EvaluationConfig
from trainer.core.errors import DataError, SettingsError
from trainer.evaluation import thresholds as module
from trainer.evaluation.threshold_search import (
    SortedScores,
    ThresholdCandidates,
    best_global_threshold,
    best_thresholds_per_label,
)
from trainer.evaluation.thresholds import (
    POLICIES,
    SWEEP_GRID,
    Policy,
    predict,
    shrunk_thresholds,
    threshold_sweep,
)

EIGHTHS = st.sampled_from([i / 8 for i in range(9)])
quick = settings(max_examples=40, deadline=None, database=None)


def per_label_thresholds(*table):
    return best_thresholds_per_label(SortedScores.of(labelled(*table)))


def global_threshold(*table):
    return best_global_threshold(ThresholdCandidates.of(labelled(*table)))


@st.composite
def tables(draw):
    shape = (draw(st.integers(1, 10)), draw(st.integers(1, 3)))
    observed = draw(hnp.arrays(bool, shape))
    observed[0, 0] = True
    return draw(hnp.arrays(float, shape, elements=EIGHTHS)), draw(hnp.arrays(bool, shape)), observed


def split(seed=0, num_rows=400, num_labels=6):
    rng = np.random.default_rng(seed)
    priors = np.geomspace(0.03, 0.4, num_labels)
    labels = rng.random((num_rows, num_labels)) < priors
    logits = rng.normal(size=labels.shape) + np.log(priors) + 2 * labels
    return 1 / (1 + np.exp(-logits)), labels.astype(np.float32)


def exact_f1(scores, positives, cut):
    predicted = scores >= cut
    size = int(predicted.sum() + positives.sum())
    return Fraction(2 * int((predicted & positives).sum()), size) if size else Fraction(0)


def expected_cut(score, scores):
    lower = max([other for other in scores if other < score], default=0.0)
    return (lower + score) / 2


@quick
@given(tables())
def test_best_f1_is_what_trying_every_cut_finds(table):
    probabilities, labels, observed = table
    thresholds = per_label_thresholds(probabilities, labels, observed)
    for j, threshold in enumerate(thresholds):
        scores, positives = probabilities[observed[:, j], j], labels[observed[:, j], j]
        if not positives.any():
            assert not (scores >= threshold).any()
            continue
        tried = [(exact_f1(scores, positives, cut), cut) for cut in set(scores)]
        assert threshold == expected_cut(max(tried)[1], scores)
        assert exact_f1(scores, positives, threshold) == max(tried)[0]


@quick
@given(tables())
def test_global_threshold_is_what_trying_every_cut_finds(table):
    probabilities, labels, observed = table
    threshold = global_threshold(probabilities, labels, observed)
    scores = probabilities[observed]
    if not labels[observed].any():
        assert not (scores >= threshold).any()
        return

    def sum_of_f1(cut):
        columns = zip(probabilities.T, labels.T, observed.T, strict=True)
        return sum(exact_f1(p[seen], y[seen], cut) for p, y, seen in columns)

    best, cut = max((sum_of_f1(cut), cut) for cut in set(scores))
    assert threshold == expected_cut(cut, scores)
    assert sum_of_f1(threshold) == best


@quick
@given(tables(), st.integers(0, 2**32 - 1))
def test_order_of_rows_and_of_labels_changes_nothing(table, seed):
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(table[0].shape[0]), rng.permutation(table[0].shape[1])
    shuffled = [array[rows][:, columns] for array in table]
    np.testing.assert_array_equal(per_label_thresholds(*shuffled), per_label_thresholds(*table)[columns])
    assert global_threshold(*shuffled) == global_threshold(*table)


@quick
@given(tables())
def test_unobserved_cells_may_hold_anything(table):
    probabilities, labels, observed = table
    spoiled = np.where(observed, probabilities, np.nan), np.where(observed, labels, 7.0), observed
    for policy in POLICIES:
        np.testing.assert_array_equal(
            fit_policy(policy, labelled(*spoiled), strength=3.0), fit_policy(policy, labelled(*table), strength=3.0)
        )


@pytest.mark.parametrize("seed", range(5))
def test_never_worse_than_a_grid_of_sixteen(seed):
    probabilities, labels = split(seed)
    grid = np.linspace(0.05, 0.8, 16)
    by_grid = np.array(
        [f1_score(labels, probabilities >= cut, average=None, zero_division=0) for cut in grid], dtype=float
    )
    fitted = predict(probabilities, per_label_thresholds(probabilities, labels))
    assert (f1_score(labels, fitted, average=None, zero_division=0) >= by_grid.max(axis=0)).all()
    shared = predict(probabilities, np.full(6, global_threshold(probabilities, labels)))
    assert f1_score(labels, shared, average="macro", zero_division=0) >= by_grid.mean(axis=1).max()


def test_label_without_positives_is_not_predicted_and_without_rows_gets_a_half():
    probabilities = np.array([[0.2, 1.0, 0.9], [0.6, 0.3, 0.1]])
    observed = np.array([[True, True, False], [True, True, False]])
    thresholds = per_label_thresholds(probabilities, np.zeros((2, 3)), observed)
    np.testing.assert_array_equal(thresholds, [0.8, np.nextafter(1.0, 2.0), 0.5])


def test_neighbouring_floats_are_still_separated():
    low = np.nextafter(0.3, 0.0)
    thresholds = per_label_thresholds(np.array([[low], [0.3]]), np.array([[0], [1]]))
    assert predict(np.array([[low], [0.3]]), thresholds).tolist() == [[False], [True]]


def test_shrinking_goes_from_the_labels_own_cut_to_the_shared_one():
    own, positives = np.array([0.1, 0.6, 0.02]), np.array([4, 100, 0])
    np.testing.assert_array_equal(shrunk_thresholds(own, 0.3, positives, 0.0), own)
    np.testing.assert_array_equal(shrunk_thresholds(own, 0.3, positives, np.inf), [0.3] * 3)
    shrunk = shrunk_thresholds(own, 0.3, positives, 4.0)
    assert own[0] < shrunk[0] < 0.3 < shrunk[1] < own[1]
    assert shrunk[2] == 0.3
    log_odds = np.log(shrunk[0] / (1 - shrunk[0]))
    assert log_odds == pytest.approx((np.log(0.1 / 0.9) + np.log(0.3 / 0.7)) / 2)


def test_shrinking_does_not_depend_on_the_temperature():
    def cooled(values):
        return 1 / (1 + (1 / np.asarray(values) - 1) ** 0.4)

    own, positives = np.array([0.1, 0.6, 0.02]), np.array([4, 100, 9])
    np.testing.assert_allclose(
        shrunk_thresholds(cooled(own), float(cooled(0.3)), positives, 7.0),
        cooled(shrunk_thresholds(own, 0.3, positives, 7.0)),
    )


def test_shrinking_survives_cuts_at_both_ends():
    shrunk = shrunk_thresholds(np.array([0.0, 1.1]), 0.3, np.array([1, 1]), 1.0)
    assert np.isfinite(shrunk).all()
    assert shrunk[0] < 0.3 < shrunk[1]


@pytest.mark.parametrize("strength", [-1.0, float("nan")])
def test_strength_out_of_range(strength):
    with pytest.raises(SettingsError, match="`strength` must be at least 0"):
        shrunk_thresholds(np.array([0.1]), 0.3, np.array([1]), strength)


def test_every_policy_fits_what_it_says():
    probabilities, labels = split()
    fitted = {policy: fit_policy(policy, labelled(probabilities, labels), strength=10.0) for policy in POLICIES}
    assert len(fitted) == 4
    np.testing.assert_array_equal(fitted["fixed"], [0.5] * 6)
    np.testing.assert_array_equal(fitted["global"], [global_threshold(probabilities, labels)] * 6)
    np.testing.assert_array_equal(fitted["per_label"], per_label_thresholds(probabilities, labels))
    np.testing.assert_array_equal(
        fitted["per_label_shrunk"],
        shrunk_thresholds(fitted["per_label"], fitted["global"][0], labels.sum(axis=0), 10.0),
    )


def test_a_policy_is_one_entry_of_the_table(monkeypatch):
    monkeypatch.setattr(module, "POLICIES", {**POLICIES, "strict": Policy(lambda fitted, _: fitted.per_label + 0.1)})
    scores = labelled(*split())
    np.testing.assert_allclose(
        fit_policy("strict", scores, strength=0.0), fit_policy("per_label", scores, strength=0.0) + 0.1
    )


def test_every_policy_can_be_chosen_as_a_setting():
    assert get_args(get_type_hints(EvaluationConfig)["threshold_policy"]) == ("auto", *POLICIES)


def test_unknown_policy():
    with pytest.raises(SettingsError, match=r"`policy` must be one of .* got best"):
        fit_policy("best", labelled(*split()), strength=1.0)


def test_predict_compares_in_double_precision():
    probabilities = np.array([[0.1]], dtype=np.float32)
    assert predict(probabilities, np.array([float(probabilities[0, 0])])).all()
    assert not predict(probabilities, np.nextafter(probabilities[0].astype(float), 1.0)).any()
    with pytest.raises(DataError, match=r"`thresholds` .* 1 labels"):
        predict(probabilities, np.array([0.5, 0.5]))


def test_sweep_equals_scikit_learn_at_every_threshold():
    probabilities, labels = split(num_rows=60, num_labels=2)
    rows = threshold_sweep(labelled(probabilities, labels, names=("joy", "grief")))
    assert len(SWEEP_GRID) == 99
    assert len(rows) == 2 * 99
    for row in rows[::7]:
        j = ("joy", "grief").index(row["label"])
        truth, predicted = labels[:, j], probabilities[:, j] >= row["threshold"]
        assert row["f1"] == pytest.approx(f1_score(truth, predicted, zero_division=0))
        assert row["precision"] == pytest.approx(precision_score(truth, predicted, zero_division=0))
        assert row["recall"] == pytest.approx(recall_score(truth, predicted, zero_division=0))


def test_sweep_leaves_out_labels_never_observed():
    probabilities, labels = split(num_labels=2)
    observed = np.ones(labels.shape, dtype=bool)
    observed[:, 1] = False
    rows = threshold_sweep(labelled(probabilities, labels, observed, names=("joy", "grief")), grid=(0.2, 0.4))
    assert [(row["label"], row["threshold"]) for row in rows] == [("joy", 0.2), ("joy", 0.4)]
