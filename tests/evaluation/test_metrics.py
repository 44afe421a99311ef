import numpy as np
import pytest
from evaluation_helpers import labelled
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from trainer.core.errors import DataError
from trainer.evaluation.metrics import confusion_counts, headline, macro_f1, per_label

quick = settings(max_examples=15, deadline=None, database=None)
NAMES = ("joy", "fear", "grief", "neutral")


def split(seed=0, num_rows=200):
    rng = np.random.default_rng(seed)
    labels = rng.random((num_rows, 4)) < np.array([0.5, 0.2, 0.05, 0.3])
    probabilities = np.round(np.clip(rng.normal(0.3, 0.2, labels.shape) + 0.3 * labels, 0, 1), 2)
    return probabilities, labels


@st.composite
def tables(draw, *, masked):
    shape = (draw(st.integers(1, 12)), 4)
    probabilities = draw(hnp.arrays(float, shape, elements=st.sampled_from([i / 8 for i in range(9)])))
    predictions, labels = draw(hnp.arrays(bool, shape)), draw(hnp.arrays(bool, shape))
    observed = draw(hnp.arrays(bool, shape)) if masked else np.ones(shape, dtype=bool)
    observed[0, 0] = True
    return probabilities, predictions, labels, observed


def agrees_with_scikit_learn(scores, probabilities, predictions, labels):
    for average in ("macro", "micro", "weighted"):
        for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
            expected = score(labels, predictions, average=average, zero_division=0)
            assert scores[f"{average}_{name}"] == pytest.approx(expected), (average, name)
    expected = sk.jaccard_score(labels, predictions, average="samples", zero_division=0)
    assert scores["jaccard"] == pytest.approx(expected)
    assert scores["hamming_loss"] == pytest.approx(sk.hamming_loss(labels, predictions))
    assert scores["subset_accuracy"] == pytest.approx(sk.accuracy_score(labels, predictions))
    assert scores["brier"] == pytest.approx(sk.brier_score_loss(labels.ravel(), probabilities.ravel(), pos_label=True))
    assert scores["labels_per_row"] == pytest.approx(predictions.sum(axis=1).mean())


@quick
@given(tables(masked=False))
def test_equals_scikit_learn_also_where_it_divides_by_zero(table):
    probabilities, predictions, labels, _ = table
    scores = headline(labelled(probabilities, labels), predictions)
    agrees_with_scikit_learn(scores, probabilities, predictions, labels)
    undefined = (labels.sum(axis=0) == 0) | (predictions.sum(axis=0) == 0)
    assert scores["num_undefined_labels"] == undefined.sum()
    rows = per_label(labelled(probabilities, labels, names=NAMES), np.full(4, 0.5))
    for j, row in enumerate(rows):
        truth, column = labels[:, j], probabilities[:, j]
        if truth.any():
            assert row["average_precision"] == pytest.approx(sk.average_precision_score(truth, column))
        else:
            assert row["average_precision"] is None
        if truth.any() and not truth.all():
            assert row["roc_auc"] == pytest.approx(sk.roc_auc_score(truth, column))
        else:
            assert row["roc_auc"] is None


def test_ranking_averages_equal_scikit_learn():
    probabilities, labels = split()
    scores = headline(labelled(probabilities, labels), probabilities >= 0.4)
    for average in ("macro", "micro"):
        ap = sk.average_precision_score(labels, probabilities, average=average)
        auc = sk.roc_auc_score(labels, probabilities, average=average)
        assert scores[f"{average}_ap"] == pytest.approx(ap)
        assert scores[f"{average}_roc_auc"] == pytest.approx(auc)
    assert scores["num_undefined_ap"] == scores["num_undefined_roc_auc"] == scores["num_undefined_labels"] == 0


def test_per_label_equals_scikit_learn():
    probabilities, labels = split()
    thresholds = np.array([0.5, 0.4, 0.3, 0.95])
    rows = per_label(labelled(probabilities, labels, names=NAMES), thresholds)
    predictions = probabilities >= thresholds
    assert [row["label"] for row in rows] == list(NAMES)
    assert [row["threshold"] for row in rows] == thresholds.tolist()
    assert [row["support"] for row in rows] == labels.sum(axis=0).tolist()
    assert [row["predicted"] for row in rows] == predictions.sum(axis=0).tolist()
    for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        expected = score(labels, predictions, average=None, zero_division=0)
        np.testing.assert_allclose([row[name] for row in rows], expected)


def test_supported_labels_have_at_least_forty_positives():
    probabilities, labels = split()
    supports = labels.sum(axis=0)
    assert (supports >= 40).tolist() == [True, True, False, True]
    predictions = probabilities >= 0.4
    f1 = sk.f1_score(labels, predictions, average=None)
    assert headline(labelled(probabilities, labels), predictions)["macro_f1_supported"] == pytest.approx(
        f1[supports >= 40].mean()
    )
    few = headline(labelled(probabilities[:20], labels[:20]), predictions[:20])
    assert "macro_f1_supported" not in few


def test_scores_that_cannot_be_computed_are_absent():
    probabilities, labels = split()
    labels[:, 2] = False
    scores = headline(labelled(probabilities, labels), probabilities >= 0.4)
    others = [0, 1, 3]
    ap = sk.average_precision_score(labels[:, others], probabilities[:, others])
    assert scores["macro_ap"] == pytest.approx(ap)
    assert scores["num_undefined_ap"] == scores["num_undefined_roc_auc"] == 1
    nothing = headline(labelled(probabilities, np.zeros_like(labels)), probabilities >= 0.4)
    assert not {"macro_ap", "micro_ap", "macro_roc_auc", "micro_roc_auc"} & set(nothing)
    assert nothing["num_undefined_ap"] == 4
    everything = headline(labelled(probabilities, np.ones_like(labels)), probabilities >= 0.4)
    assert everything["macro_ap"] == 1.0
    assert "macro_roc_auc" not in everything


@quick
@given(tables(masked=True))
def test_unobserved_cells_may_hold_anything(table):
    probabilities, predictions, labels, observed = table
    whole = labelled(probabilities, labels, observed)
    spoiled = labelled(np.where(observed, probabilities, np.nan), np.where(observed, labels, np.nan), observed)
    spoiled_predictions = np.where(observed, predictions, ~predictions)
    assert headline(spoiled, spoiled_predictions) == headline(whole, predictions)
    assert per_label(spoiled, np.full(4, 0.5)) == per_label(whole, np.full(4, 0.5))


def test_masked_scores_are_those_of_the_cells_that_are_left():
    probabilities, labels = split()
    observed = np.ones(labels.shape, dtype=bool)
    observed[100:] = False
    predictions = probabilities >= 0.4
    masked = headline(labelled(probabilities, labels, observed), predictions)
    assert masked == pytest.approx(headline(labelled(probabilities[:100], labels[:100]), predictions[:100]))
    observed = np.ones(labels.shape, dtype=bool)
    observed[:, 1] = False
    kept = [0, 2, 3]
    masked = headline(labelled(probabilities, labels, observed), predictions)
    expected = headline(labelled(probabilities[:, kept], labels[:, kept]), predictions[:, kept])
    assert masked.pop("num_unobserved_labels") == 1
    assert expected.pop("num_unobserved_labels") == 0
    assert masked == pytest.approx(expected)
    row = per_label(labelled(probabilities, labels, observed), np.full(4, 0.4))[1]
    assert row["support"] == 0
    assert {row[key] for key in ("precision", "recall", "f1", "average_precision", "roc_auc", "ece")} == {None}


@quick
@given(tables(masked=True), st.integers(0, 2**32 - 1))
def test_order_of_rows_and_of_labels_changes_nothing(table, seed):
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(table[0])), rng.permutation(4)
    shuffled = [array[rows][:, columns] for array in table]
    assert of_table(shuffled) == pytest.approx(of_table(table))


def of_table(table):
    probabilities, predictions, labels, observed = table
    return headline(labelled(probabilities, labels, observed), predictions)


def test_soft_labels_count_as_positive_from_a_half():
    counts = confusion_counts(labelled(np.zeros((3, 1)), [[0.5], [0.49], [1.0]]), np.array([[True], [True], [False]]))
    assert (counts.tp[0], counts.fp[0], counts.fn[0], counts.tn[0]) == (1, 1, 1, 0)


def test_confusion_counts_add_up_over_parts():
    probabilities, labels = split()
    predictions = probabilities >= 0.4
    scores = labelled(probabilities, labels)
    first, second = (confusion_counts(scores.take(part), predictions[part]) for part in (slice(70), slice(70, None)))
    parts = first + second
    assert parts.macro_f1 == macro_f1(scores, predictions)
    np.testing.assert_array_equal(parts.tn, sk.multilabel_confusion_matrix(labels, predictions)[:, 0, 0])


@pytest.mark.parametrize("predictions", [np.zeros((200, 4)), np.zeros((3, 4), dtype=bool)])
def test_other_predictions_are_refused(predictions):
    with pytest.raises(DataError, match=r"`predictions` must be boolean of shape \(200, 4\)"):
        headline(labelled(*split()), predictions)
