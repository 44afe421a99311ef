"""Tables for MLflow's page: which mistakes come first, and how they are shown."""

import json

import numpy as np
import pytest

from trainer.core import artifacts
from trainer.evaluation.evaluation import evaluate_dev
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
    rows = rows_of(tables.write_errors(tmp_path, evaluation, {"test": test}))
    assert [(row["mistake"], row["label"], row["text"][:6]) for row in rows] == [
        *(("predicted", "joy", f"text {number}") for number in range(3)),
        ("missed", "grief", "text 3"),
    ]
    assert [(row["labels"], row["predicted"]) for row in rows] == [("", "joy")] * 3 + [("grief", "")]
    assert rows[1]["probability"] >= rows[2]["probability"] > 0.5 > rows[3]["probability"]
    assert max(len(row["text"]) for row in rows) == 500


def test_a_cell_without_annotation_is_no_mistake_and_the_table_is_short(tmp_path, evaluation):
    wrong = split([[5, -5]] * 100, [[0, 1]] * 100)
    rows = rows_of(tables.write_errors(tmp_path, evaluation, {"dev": wrong, "test": wrong}))
    assert [row["split"] for row in rows] == ["test"] * 24 + ["dev"] * 24
    wrong.observed[:] = False
    assert rows_of(tables.write_errors(tmp_path, evaluation, {"test": wrong})) == []


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
