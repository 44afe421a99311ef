"""Columns that the settings name are kept with the examples, whatever the format, and change nothing else."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.core.errors import DataError, SettingsError
from trainer.core.groups import group_numbers
from trainer.data.config import DataConfig
from trainer.data.dataset import ROLES
from trainer.data.sources import load

ROWS = [
    {"text": "so glad", "labels": "joy", "dialogue": 7, "source": "forum"},
    {"text": "go away", "labels": "anger", "dialogue": 7, "source": " "},
    {"text": "hm", "labels": "", "dialogue": None, "source": "news"},
]
KEPT = {"dialogue": ("7", "7", ""), "source": ("forum", "", "news")}


def delimited(sign):
    return "\n".join(
        sign.join(map(str, row.values())).replace("None", "")
        for row in [dict(zip(ROWS[0], ROWS[0], strict=True)), *ROWS]
    )


def parquet():
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), file)
    return file.getvalue()


FORMATS = {
    "csv": delimited(","),
    "tsv": delimited("\t"),
    "jsonl": "\n".join(json.dumps({k: v for k, v in row.items() if v is not None}) for row in ROWS),
    "parquet": parquet(),
}


def read(write, suffix, content, **settings):
    folder = write(**{f"{role}__{suffix}": content for role in ROLES})
    return load(DataConfig(dataset=str(folder), overlap="keep", **settings), seed=0)


@pytest.mark.parametrize("suffix", FORMATS)
def test_named_columns_are_kept(write, suffix):
    kept = read(write, suffix, FORMATS[suffix], group_column="dialogue", keep_columns="source, dialogue").train
    assert kept.columns == KEPT
    assert list(kept.columns) == ["dialogue", "source"]
    assert kept.digest == read(write, suffix, FORMATS[suffix]).train.digest
    assert kept.take(np.array([2, 0])).columns == {"dialogue": ("", "7"), "source": ("news", "forum")}


def test_a_kept_column_is_no_label(write):
    content = "text,joy,year\nso glad,1,1\nhm,0,0\n"
    found = read(write, "csv", content, keep_columns="year")
    assert (found.label_names, found.train.columns) == (("joy",), {"year": ("1", "0")})


def test_examples_of_dev_that_are_trained_on_keep_their_columns(write):
    folder = write(
        train__csv="text,labels,who\na b,joy,1\n",
        dev__csv="text,labels,who\nc,joy,2\n",
        test__csv="text,labels,who\nd,joy,3\n",
    )
    config = DataConfig(dataset=str(folder), keep_columns="who")
    assert load(config, seed=0, with_dev=True).trained_on.columns == {"who": ("1", "2")}


@pytest.mark.parametrize("setting", ["group_column", "keep_columns"])
def test_an_absent_column_is_refused_with_the_nearest(write, setting):
    with pytest.raises(DataError, match=rf"`{setting}`.*train\.csv.*dialog\..*`dialogue`"):
        read(write, "csv", FORMATS["csv"], **{setting: "dialog"})


def test_a_source_without_such_a_column_names_those_it_has(write):
    folder = write(**{f"{role}__tsv": "so glad\t0\tx1\n" for role in ROLES}, labels__txt="joy\n")
    assert load(DataConfig(dataset=str(folder), keep_columns="id", overlap="keep"), seed=0).test.columns == {
        "id": ("x1",)
    }
    with pytest.raises(DataError, match=r"`group_column`.*author.*`text`, `labels`, `id`"):
        load(DataConfig(dataset=str(folder), group_column="author"), seed=0)


@pytest.mark.parametrize("settings", [{"group_column": "text"}, {"keep_columns": "x,labels"}])
def test_texts_and_labels_are_no_kept_columns(settings):
    with pytest.raises(SettingsError, match=f"`{next(iter(settings))}`"):
        DataConfig(**settings)


def test_equal_cells_are_a_group_and_an_empty_one_stands_alone():
    assert group_numbers(["b", "", "a", "b", ""]).tolist() == [0, 1, 2, 0, 3]
