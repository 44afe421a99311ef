"""Predictions come back from their file as they were written, and a damaged file is refused by name."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.core import artifacts
from trainer.core.errors import DataError
from trainer.runs import results
from trainer.runs.results import Predictions, read_predictions

NAMES = ("joy", "line\nbreak", "grief")
N = 4


@pytest.fixture
def split():
    rng = np.random.default_rng(0)
    return Predictions(
        scores=rng.normal(size=(N, 3)).astype(np.float32),
        labels=rng.integers(0, 2, size=(N, 3)).astype(np.float32),
        observed=rng.random((N, 3)) < 0.8,
        example_ids=("a", "b", "7", "é"),
        texts=("so proud", "😀 \n\0", "", "x" * 10_000),
        label_names=NAMES,
        columns={"text": ("d1", "d2", "d1", "")},
        group_column="text",
    )


@pytest.fixture
def path(split, tmp_path):
    results.write_predictions(tmp_path, "dev", split)
    return tmp_path / artifacts.predictions_file("dev")


def test_what_is_written_is_read(split, path):
    found = read_predictions(path)
    assert (found.example_ids, found.texts, found.label_names) == (split.example_ids, split.texts, split.label_names)
    assert (found.columns, found.group_column) == (split.columns, "text")
    assert found.groups.tolist() == [0, 1, 0, 2]
    for name, kind in (("labels", pa.float32()), ("observed", pa.bool_()), ("logits", pa.float32())):
        values = getattr(found, name)
        np.testing.assert_array_equal(values, getattr(split, name))
        assert pq.read_table(path)[name].type.value_type == kind


def test_an_older_file_has_no_kept_columns(path):
    table = pq.read_table(path).drop_columns(["column.text"])
    metadata = {key: value for key, value in table.schema.metadata.items() if key != b"group_column"}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    found = read_predictions(path)
    assert (dict(found.columns), found.groups) == ({}, None)


def test_taken_examples_keep_their_ids_and_columns(split):
    taken = split.take(np.array([False, True, True, False]))
    assert (taken.example_ids, taken.columns) == (("b", "7"), {"text": ("d2", "d1")})


def change(**columns):
    """A change of some columns of the table."""

    def apply(table):
        for name, values in columns.items():
            at = table.column_names.index(name)
            table = table.remove_column(at) if values is None else table.set_column(at, name, pa.array(values))
        return table

    return apply


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (change(text=None), r"Name\(text\)"),
        (change(logits=None), r"Name\(logits\)"),
        (change(row_id=["a", "a", "b", "c"]), "same row id twice"),
        (change(text=["a", None, "b", "c"]), "a row without id or text"),
        (change(logits=[[1.0, 2.0, float("nan")]] * N), "`logits` must be finite"),
        (change(labels=[[1.0, 2.0, 0.0]] * N), r"`labels` must lie in \[0, 1\]"),
        (change(logits=[[1.0, 2.0]] * N), "reshape"),
        (change(logits=[[1.0, 2.0, 3.0]] * 3 + [[1.0]]), "inhomogeneous"),
        (lambda table: table.replace_schema_metadata({}), "label_names"),
        (lambda table: table.replace_schema_metadata({"label_names": json.dumps(NAMES[:2])}), "reshape"),
        (lambda table: table.replace_schema_metadata({"label_names": "joy"}), "Expecting value"),
    ],
)
def test_a_file_of_another_kind_is_refused(path, damage, reason):
    pq.write_table(damage(pq.read_table(path)), path)
    with pytest.raises(DataError, match=rf"(?s)dev\.parquet.*{reason}"):
        read_predictions(path)


@pytest.mark.parametrize("content", [None, b"", b"PAR1 no", "half"])
def test_a_missing_or_damaged_file_is_refused(path, content):
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:400] if content == "half" else content)
    with pytest.raises(DataError, match=r"dev\.parquet"):
        read_predictions(path)
