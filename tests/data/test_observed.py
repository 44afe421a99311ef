"""Labels that were not annotated: an empty cell of a 0/1 column."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.core.errors import DataError
from trainer.data.config import DataConfig
from trainer.data.sources import load

HEADER = ["text", "anger", "joy", "sadness"]
ROWS = {
    "train": [("so glad", 0, 1, None), ("go away", 1, None, 0), ("i miss her", 0, 0, 1)],
    "dev": [("a day", None, 1, 0)],
    "test": [("a night", 0, 0, 0), ("an end", None, None, 1)],
}


def write_csv(folder, role, rows):
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
    (folder / f"{role}.csv").write_text("\n".join([",".join(HEADER), *lines]) + "\n")


def write_jsonl(folder, role, rows):
    (folder / f"{role}.jsonl").write_text("\n".join(json.dumps(dict(zip(HEADER, row, strict=True))) for row in rows))


def write_parquet(folder, role, rows):
    columns = {name: [row[column] for row in rows] for column, name in enumerate(HEADER)}
    pq.write_table(pa.table(columns), folder / f"{role}.parquet")


@pytest.mark.parametrize("write_split", [write_csv, write_jsonl, write_parquet], ids=lambda write: write.__name__)
def test_empty_cells_are_not_observed(tmp_path, write_split):
    for role, rows in ROWS.items():
        write_split(tmp_path, role, rows)
    data = load(DataConfig(dataset=str(tmp_path)), seed=0)
    for role, rows in ROWS.items():
        split = getattr(data, role)
        assert split.observed.tolist() == [[cell is not None for cell in row[1:]] for row in rows]
        assert split.labels.tolist() == [[float(cell or 0) for cell in row[1:]] for row in rows]
    assert data.facts()["observed"] == {"train": 7 / 9, "dev": 2 / 3, "test": 4 / 6}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("hi", None, None, None), "dev.csv:2: has no annotated label: write 0 .* or remove"),
        (("hi", "NONE", 0, 1), "dev.csv:2: label column 'anger' .*'NONE'"),
    ],
)
def test_ambiguous_cells_are_refused(tmp_path, row, message):
    for role, rows in (ROWS | {"dev": [row]}).items():
        write_csv(tmp_path, role, rows)
    with pytest.raises(DataError, match=message):
        load(DataConfig(dataset=str(tmp_path)), seed=0)


def test_a_label_observed_in_no_positive_train_example_is_refused(tmp_path):
    for role, rows in (ROWS | {"train": [("so glad", 0, 1, None), ("go away", 1, 0, 0)]}).items():
        write_csv(tmp_path, role, rows)
    with pytest.raises(DataError, match="without a single train example: sadness"):
        load(DataConfig(dataset=str(tmp_path)), seed=0)


def test_a_sample_of_train_has_an_observed_example_of_every_label(tmp_path):
    train = [(f"text {number}", 1, 1, None) for number in range(30)] + [("i miss her", 0, 0, 1)]
    for role, rows in (ROWS | {"train": train}).items():
        write_csv(tmp_path, role, rows)
    sample = load(DataConfig(dataset=str(tmp_path), max_train_rows=2), seed=0).train
    assert np.array_equal((sample.labels * sample.observed).any(axis=0), [True, True, True])
