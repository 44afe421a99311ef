"""Predictions of other programs: every form of the file, and what is refused."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.core.errors import DataError
from trainer.data.config import DataConfig
from trainer.data.dataset import Split
from trainer.data.predictions_file import has_labels, read_predictions_file

NAMES = ("joy", "rage")
PROBABILITIES = [[0.9, 0.1], [0.2, 0.75], [0.5, 0.0]]
LABELS = np.array([[1, 0], [0, 1], [0, 0]], np.float32)
SPLIT = Split(
    texts=("so good", "so bad", "so good"), labels=LABELS, observed=np.ones((3, 2), bool), example_ids=("a", "b", "c")
)
FORMS = {
    "columns of predict": (
        "p.csv",
        "text,probability_joy,probability_rage\nso good,.9,.1\nso bad,.2,.75\nso good,.5,0\n",
    ),
    "a column per label": ("p.tsv", "id\tjoy\trage\tnote\na\t.9\t.1\tx\nb\t.2\t.75\ty\nc\t.5\t0\tz\n"),
    "lists": ("p.csv", 'text,scores\nso good,"[0.9, 0.1]"\nso bad,"[0.2, 0.75]"\nso good,"[0.5, 0.0]"\n'),
    "objects": (
        "p.jsonl",
        "\n".join(
            json.dumps({"id": name, "probabilities": {"rage": rage, "joy": joy}})
            for name, (joy, rage) in zip("cba", reversed(PROBABILITIES), strict=True)
        ),
    ),
}


def read(folder, name, text, **settings):
    path = folder / name
    path.write_text(text)
    return read_predictions_file(path, DataConfig(**settings), NAMES)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_probabilities_of_the_examples(form, tmp_path):
    file = read(tmp_path, *FORMS[form])
    columns = [file.label_names.index(name) for name in NAMES]
    assert file.probabilities[file.rows_of(SPLIT)][:, columns].tolist() == PROBABILITIES
    assert file.decisions is None


def test_parquet_with_decisions_and_labels(tmp_path):
    path = tmp_path / "p.parquet"
    table = {
        "id": list("abc"),
        "labels": [["joy"], ["rage"], []],
        "predicted_labels": [["joy"], [], ["joy", "rage"]],
        "probabilities": PROBABILITIES,
    }
    pq.write_table(pa.table(table), path)
    file = read_predictions_file(path, DataConfig(), NAMES)
    assert file.decisions.tolist() == [[True, False], [False, False], [True, True]]
    assert file.texts is None
    assert has_labels(path, DataConfig())
    file.check_labels(SPLIT, NAMES, file.rows_of(SPLIT))
    other = Split(texts=SPLIT.texts, labels=LABELS[::-1].copy(), observed=SPLIT.observed, example_ids=SPLIT.example_ids)
    with pytest.raises(DataError, match="2 examples"):
        file.check_labels(other, NAMES, file.rows_of(other))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("id,joy,rage\na,.9,.1\nb,.2,.75\n", "1 missing \\(c\\), 0 not in the data"),
        ("id,joy,rage\na,.9,.1\nb,.2,.75\nd,0,0\n", "1 missing \\(c\\), 1 not in the data \\(d\\)"),
        ("text,joy,rage\nso good,.9,.1\nso bad,.2,.75\n", "1 missing \\(so good\\)"),
        ("text,joy,rage\nso good,.9,.1\nso bad,.2,.75\nso bad,0,0\n", "1 not in the data \\(so bad\\)"),
    ],
)
def test_other_examples_are_refused_with_counts_and_names(text, named, tmp_path):
    file = read(tmp_path, "p.csv", text)
    with pytest.raises(DataError, match=named):
        file.rows_of(SPLIT)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("id,joy,rage\na,3.5,.1\n", "joy.*3.5"),
        ("id,probability_joy\na,\n", "probability_joy"),
        ('id,scores\na,"[0.1]"\n', "scores"),
        ("id,note\na,x\n", "probability_LABEL"),
        ("joy,rage\n.1,.2\n", "text"),
        ("id,joy,predicted_labels\na,.1,fear\n", "fear"),
    ],
)
def test_a_file_without_usable_predictions_is_refused(text, named, tmp_path):
    with pytest.raises(DataError, match=f"(?s){named}"):
        read(tmp_path, "p.csv", text)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"absent\.csv"):
        read_predictions_file(tmp_path / "absent.csv", DataConfig(), NAMES)
