"""Tables for MLflow's page: which rows they have, and which come first."""

import json

import numpy as np
import pytest

from trainer.core import artifacts
from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.evaluation import evaluate_dev
from trainer.evaluation.resampling import Resampling
from trainer.runs import tables
from trainer.runs.results import Predictions

NAMES = ("joy", "grief")


def split(logits, labels):
    count = len(logits)
    return Predictions(
        scores=np.asarray(logits, float),
        labels=np.asarray(labels, float),
        observed=np.ones((count, 2), dtype=bool),
        example_ids=tuple(map(str, range(count))),
        texts=tuple(f"text {number} " + "x" * 600 for number in range(count)),
        label_names=NAMES,
    )


@pytest.fixture(scope="module")
def evaluation():
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 2)) < 0.4).astype(float)
    return evaluate_dev(
        split(4 * labels - 2 + rng.normal(size=(60, 2)), labels), calibration="auto", policy="fixed", folds=5, seed=0
    )


def rows_of(path):
    table = json.loads(path.read_text(encoding="utf-8"))
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def test_the_most_confident_mistakes_come_first(tmp_path, evaluation):
    test = split([[5, -5], [3, -5], [1, -5], [-5, -4], [5, 5]], [[0, 0], [0, 0], [0, 0], [0, 1], [1, 1]])
    rows = rows_of(tables.write_errors(tmp_path, [tables.JudgedSplit.of("test", test, evaluation)]))
    assert [(row["mistake"], row["label"], row["text"][:6]) for row in rows] == [
        *(("predicted", "joy", f"text {number}") for number in range(3)),
        ("missed", "grief", "text 3"),
    ]
    assert [(row["labels"], row["predicted"]) for row in rows] == [("", "joy")] * 3 + [("grief", "")]
    assert rows[1]["probability"] >= rows[2]["probability"] > 0.5 > rows[3]["probability"]
    assert max(len(row["text"]) for row in rows) == 500


def test_a_cell_without_annotation_is_no_mistake_and_the_table_is_short(tmp_path, evaluation):
    wrong = split([[5, -5]] * 100, [[0, 1]] * 100)
    splits = [tables.JudgedSplit.of(role, wrong, evaluation) for role in ("test", "dev")]
    rows = rows_of(tables.write_errors(tmp_path, splits))
    assert [row["split"] for row in rows] == ["test"] * 24 + ["dev"] * 24
    wrong.observed[:] = False
    assert rows_of(tables.write_errors(tmp_path, splits)) == []


def test_scores_of_dev_and_test_share_a_row(tmp_path):
    metrics = {
        "dev/final/macro_f1": 0.123456,
        "test/macro_f1": 0.2,
        "test/macro_f1_low": 0.1,
        "test/macro_f1_high": 0.3,
        "test/macro_f1/global": 0.4,
        "dev/best_step": 12.0,
        "model/size_mb": 3.0,
    }
    assert rows_of(tables.write_scores(tmp_path, metrics)) == [
        {"score": "macro_f1", "dev": 0.1235, "test": 0.2, "test_low": 0.1, "test_high": 0.3},
        {"score": "macro_f1, policy global", "dev": None, "test": 0.4, "test_low": None, "test_high": None},
    ]
    assert (tmp_path / artifacts.SCORES).is_file()


def judged(probabilities, labels, predictions, **about):
    labels = np.asarray(labels, float)
    return tables.JudgedSplit(
        role="dev",
        scores=LabelledScores(
            label_names=NAMES,
            scores=np.asarray(probabilities, float),
            labels=labels,
            observed=np.ones(labels.shape, dtype=bool),
        ),
        predictions=np.asarray(predictions, dtype=bool),
        example_ids=tuple(f"id {number}" for number in range(len(labels))),
        texts=tuple("word " * (number % 3 + 3) for number in range(len(labels))),
        **about,
    )


def test_answers_to_a_missed_label_are_listed_by_frequency(tmp_path):
    labels = [[1, 0]] * 5 + [[0, 1]]
    split = judged(np.full((6, 2), 0.4), labels, [[0, 1]] * 3 + [[0, 0]] + [[1, 0]] + [[0, 1]])
    assert rows_of(tables.write_missed_labels(tmp_path, [split])) == [
        {
            "missed": "joy",
            "predicted": predicted,
            "examples": examples,
            "fraction": examples / 4,
            "misses": 4,
            "support": 5,
            "split": "dev",
        }
        for predicted, examples in (("grief", 3), ("no label", 1))
    ]


def test_slices_by_length_labels_and_columns_are_one_table(tmp_path):
    split = judged([[0.9, 0.1]] * 6, [[1, 0]] * 6, [[1, 0]] * 6, columns={"source": ("tv",) * 4 + ("web",) * 2})
    rows = rows_of(tables.write_slices(tmp_path, [split], Resampling(num_resamples=20)))
    assert [(row["slice_by"], row["slice"], row["examples"], row["macro_f1"]) for row in rows] == [
        ("all", "all", 6, 1.0),
        ("words", "1-4", 4, 1.0),
        ("words", "5-8", 2, 1.0),
        ("number of labels", "1", 6, 1.0),
        ("source", "tv", 4, 1.0),
        ("source", "web", 2, 1.0),
    ]
    assert {row["split"] for row in rows} == {"dev"}
    assert all(row["few"] for row in rows)


def test_suspected_label_errors_have_their_texts_and_counts(tmp_path):
    labels = np.array([[1, 0], [0, 0]] * 20)
    probabilities = np.where(labels, 0.9, 0.05)
    probabilities[0, 0], probabilities[1, 0] = 0.02, 0.97  # given and unlikely, likely and not given
    split = judged(probabilities, labels, probabilities > 0.5)
    errors, counts = map(rows_of, tables.write_label_errors(tmp_path, [split]))
    assert [(row["id"], row["suspected"], row["label"], row["labels"]) for row in errors] == [
        ("id 0", "wrong", "joy", "joy"),
        ("id 1", "missing", "joy", ""),
    ]
    assert [(row["probability"], row["quality"], row["split"]) for row in errors] == [
        (0.02, 0.02, "dev"),
        (0.97, pytest.approx(0.03), "dev"),
    ]
    assert counts == [  # without grief, which has no positive
        {
            "label": "joy",
            "positives": 20,
            "suspected_wrong": 1,
            "suspected_missing": 1,
            "examples": 40,
            "split": "dev",
        }
    ]
