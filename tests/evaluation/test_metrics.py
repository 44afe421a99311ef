import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from trainer.core.errors import DataError
from trainer.evaluation.metrics import confusion_counts, headline, macro_f1, per_label

quick = settings(max_examples=25, deadline=None, database=None)
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
    scores = headline(probabilities, predictions, labels)
    agrees_with_scikit_learn(scores, probabilities, predictions, labels)
    undefined = (labels.sum(axis=0) == 0) | (predictions.sum(axis=0) == 0)
    assert scores["num_undefined_labels"] == undefined.sum()
    rows = per_label(NAMES, probabilities, np.full(4, 0.5), labels)
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
    scores = headline(probabilities, probabilities >= 0.4, labels)
    for average in ("macro", "micro"):
        ap = sk.average_precision_score(labels, probabilities, average=average)
        auc = sk.roc_auc_score(labels, probabilities, average=average)
        assert scores[f"{average}_ap"] == pytest.approx(ap)
        assert scores[f"{average}_roc_auc"] == pytest.approx(auc)
    assert scores["num_undefined_ap"] == scores["num_undefined_roc_auc"] == scores["num_undefined_labels"] == 0


def test_per_label_equals_scikit_learn():
    probabilities, labels = split()
    thresholds = np.array([0.5, 0.4, 0.3, 0.95])
    rows = per_label(NAMES, probabilities, thresholds, labels)
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
    assert headline(probabilities, predictions, labels)["macro_f1_supported"] == pytest.approx(
        f1[supports >= 40].mean()
    )
    few = headline(probabilities[:20], predictions[:20], labels[:20])
    assert "macro_f1_supported" not in few


def test_scores_that_cannot_be_computed_are_absent():
    probabilities, labels = split()
    labels[:, 2] = False
    scores = headline(probabilities, probabilities >= 0.4, labels)
    others = [0, 1, 3]
    ap = sk.average_precision_score(labels[:, others], probabilities[:, others])
    assert scores["macro_ap"] == pytest.approx(ap)
    assert scores["num_undefined_ap"] == scores["num_undefined_roc_auc"] == 1
    nothing = headline(probabilities, probabilities >= 0.4, np.zeros_like(labels))
    assert not {"macro_ap", "micro_ap", "macro_roc_auc", "micro_roc_auc"} & set(nothing)
    assert nothing["num_undefined_ap"] == 4
    everything = headline(probabilities, probabilities >= 0.4, np.ones_like(labels))
    assert everything["macro_ap"] == 1.0
    assert "macro_roc_auc" not in everything


@quick
@given(tables(masked=True))
def test_unobserved_cells_may_hold_anything(table):
    probabilities, predictions, labels, observed = table
    spoiled = np.where(observed, probabilities, np.nan), np.where(observed, predictions, ~predictions)
    spoiled_labels = np.where(observed, labels, np.nan)
    assert headline(*spoiled, spoiled_labels, observed) == headline(probabilities, predictions, labels, observed)
    cuts = np.full(4, 0.5)
    assert per_label(NAMES, spoiled[0], cuts, spoiled_labels, observed) == per_label(
        NAMES, probabilities, cuts, labels, observed
    )


def test_masked_scores_are_those_of_the_cells_that_are_left():
    probabilities, labels = split()
    observed = np.ones(labels.shape, dtype=bool)
    observed[100:] = False
    predictions = probabilities >= 0.4
    masked = headline(probabilities, predictions, labels, observed)
    assert masked == pytest.approx(headline(probabilities[:100], predictions[:100], labels[:100]))
    observed = np.ones(labels.shape, dtype=bool)
    observed[:, 1] = False
    kept = [0, 2, 3]
    masked = headline(probabilities, predictions, labels, observed)
    expected = headline(probabilities[:, kept], predictions[:, kept], labels[:, kept])
    assert masked.pop("num_unobserved_labels") == 1
    assert expected.pop("num_unobserved_labels") == 0
    assert masked == pytest.approx(expected)
    row = per_label(NAMES, probabilities, np.full(4, 0.4), labels, observed)[1]
    assert row["support"] == 0
    assert {row[key] for key in ("precision", "recall", "f1", "average_precision", "roc_auc", "ece")} == {None}


@quick
@given(tables(masked=True), st.integers(0, 2**32 - 1))
def test_order_of_rows_and_of_labels_changes_nothing(table, seed):
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(table[0])), rng.permutation(4)
    assert headline(*(array[rows][:, columns] for array in table)) == pytest.approx(headline(*table))


def test_soft_labels_count_as_positive_from_a_half():
    counts = confusion_counts(np.array([[True], [True], [False]]), np.array([[0.5], [0.49], [1.0]]))
    assert (counts.tp[0], counts.fp[0], counts.fn[0], counts.tn[0]) == (1, 1, 1, 0)


def test_confusion_counts_add_up_over_parts():
    probabilities, labels = split()
    predictions = probabilities >= 0.4
    parts = confusion_counts(predictions[:70], labels[:70]) + confusion_counts(predictions[70:], labels[70:])
    assert parts.macro_f1 == macro_f1(predictions, labels)
    np.testing.assert_array_equal(parts.tn, sk.multilabel_confusion_matrix(labels, predictions)[:, 0, 0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probabilities": np.full((2, 1), 0.5)}, "probabilities must have the shape of labels"),
        (
            {"probabilities": np.array([[0.5, np.nan], [0.1, 0.2]])},
            r"probabilities must lie in \[0, 1\].*row=0, label=1",
        ),
        ({"probabilities": np.array([[0.5, 0.5], [1.5, 0.2]])}, r"probabilities must lie in \[0, 1\].*value=1.5"),
        ({"labels": np.array([[0.5, 0.5], [-1, 0.2]])}, r"labels must lie in \[0, 1\].*value=-1.0"),
        ({"labels": np.zeros((0, 2))}, r"labels must be a table of rows by labels"),
        ({"predictions": np.zeros((2, 2))}, "predictions must be boolean, but got predictions.dtype=dtype"),
        ({"predictions": np.zeros((3, 2), dtype=bool)}, "predictions must have the shape of labels"),
        ({"observed": np.ones((2, 2))}, "observed must be boolean"),
        ({"observed": np.ones((2, 1), dtype=bool)}, "observed must have the shape of labels"),
        ({"observed": np.zeros((2, 2), dtype=bool)}, "observed must mark at least one cell"),
    ],
)
def test_bad_input_is_named(changes, message):
    arrays = {
        "probabilities": np.full((2, 2), 0.5),
        "predictions": np.ones((2, 2), dtype=bool),
        "labels": np.ones((2, 2)),
        "observed": np.ones((2, 2), dtype=bool),
    }
    assert headline(**arrays)["macro_f1"] == 1.0
    with pytest.raises(DataError, match=message):
        headline(**arrays | changes)
