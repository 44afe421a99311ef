"""What a label cell may look like: every spelling gives the same data, and one with two readings is refused."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.core.errors import DataError
from trainer.data.config import DataConfig
from trainer.data.sources import load

NAMES = ("anger", "joy", "pride")
ROWS = [("anger",), ("anger", "pride"), (), ("joy",), ("joy", "anger")]
EXPECTED = [[float(name in row) for name in NAMES] for row in ROWS]


def write_csv(folder, header, rows):
    file = io.StringIO()
    csv.writer(file).writerows([header, *rows])
    for role in ("train", "dev", "test"):
        (folder / f"{role}.csv").write_text(file.getvalue(), encoding="utf-8")


def write_cells(folder, cells, *, column="labels", listed=False):
    write_csv(folder, ["text", column], [(f"text {row}", cell) for row, cell in enumerate(cells)])
    if listed:
        (folder / "labels.txt").write_text("\n".join(NAMES))


def write_objects(folder, objects, *, listed=False):
    for role in ("train", "dev", "test"):
        lines = [json.dumps({"text": f"text {row}", **one}) for row, one in enumerate(objects)]
        (folder / f"{role}.jsonl").write_text("\n".join(lines))
    if listed:
        (folder / "labels.txt").write_text("\n".join(NAMES))


def read(folder, **settings):
    return load(DataConfig(dataset=str(folder), overlap="keep", **settings), seed=0)


def ids(row):
    return [NAMES.index(name) for name in row]


def vector(row):
    return [int(name in row) for name in NAMES]


NAMED = {
    "bar": "|".join,
    "comma": ", ".join,
    "trailing separator": lambda row: "".join(f"{name}, " for name in row),
    "Python list": lambda row: repr(list(row)),
    "Python set": lambda row: "{" + ", ".join(map(repr, row)) + "}",
    "Python tuple": lambda row: repr(row) if row else "",
    "JSON list": json.dumps,
    "list with an empty name": lambda row: json.dumps([*row, ""]),
    "NumPy list": lambda row: "[" + " ".join(map(repr, row)) + "]",
    "NumPy scalars": lambda row: "[" + ", ".join(f"np.str_({name!r})" for name in row) + "]",
    "choices": lambda row: json.dumps({"choices": row}) if len(row) > 1 else "".join(row),
    "object": lambda row: json.dumps(dict(zip(NAMES, map(float, vector(row)), strict=True))),
    "Python object": lambda row: repr(dict(zip(NAMES, vector(row), strict=True))),
}
LISTED = {
    "ids": lambda row: ",".join(map(str, ids(row))),
    "list of ids": lambda row: str(ids(row)),
    "list of floats": lambda row: str([float(one) for one in ids(row)]),
    "vector": lambda row: str(vector(row)),
    "vector of floats": lambda row: str([float(one) for one in vector(row)]),
    "NumPy vector": lambda row: "[" + " ".join(f"{one}." for one in vector(row)) + "]",
    "vector of booleans": lambda row: str([bool(one) for one in vector(row)]),
    "vector of strings": lambda row: str([str(one) for one in vector(row)]),
}


@pytest.mark.parametrize("spelling", NAMED)
def test_cells_of_names(tmp_path, spelling):
    write_cells(tmp_path, map(NAMED[spelling], ROWS))
    data = read(tmp_path)
    assert (data.label_names, data.test.labels.tolist()) == (NAMES, EXPECTED)


@pytest.mark.parametrize("spelling", LISTED)
def test_cells_of_numbers(tmp_path, spelling):
    write_cells(tmp_path, map(LISTED[spelling], ROWS), listed=True)
    assert read(tmp_path).test.labels.tolist() == EXPECTED


@pytest.mark.parametrize("form", [list, ids, vector, lambda row: [float(one) for one in vector(row)]])
def test_lists_of_json_and_parquet(tmp_path, form):
    write_objects(tmp_path, [{"labels": form(row)} for row in ROWS], listed=True)
    assert read(tmp_path).test.labels.tolist() == EXPECTED
    for role in ("train", "dev", "test"):
        (tmp_path / f"{role}.jsonl").unlink()
        table = pa.table({"text": [f"text {row}" for row in range(5)], "labels": [form(row) for row in ROWS]})
        pq.write_table(table, tmp_path / f"{role}.parquet")
    assert read(tmp_path).test.labels.tolist() == EXPECTED


def test_a_list_of_two_labels_has_a_value_per_label_if_every_list_has_two(tmp_path):
    (tmp_path / "labels.txt").write_text("anger\njoy")
    write_objects(tmp_path, [{"labels": cell} for cell in ([1, 0], [0, 1], [0, 0])])
    assert read(tmp_path).test.labels.tolist() == [[1, 0], [0, 1], [0, 0]]
    write_objects(tmp_path, [{"labels": cell} for cell in ([0, 1], [1], [0])])
    assert read(tmp_path).test.labels.tolist() == [[1, 1], [0, 1], [1, 0]]
    write_objects(tmp_path, [{"labels": cell} for cell in ([0, 0], [1], [0])])
    with pytest.raises(DataError, match=r"train\.jsonl:1: has a list of numbers that are neither ids nor"):
        read(tmp_path)


def test_no_labels_are_no_labels_in_every_format(tmp_path):
    write_cells(tmp_path, ["joy", "", "anger"])
    empty = read(tmp_path).test.labels.tolist()
    for role in ("train", "dev", "test"):
        (tmp_path / f"{role}.csv").unlink()
    write_objects(tmp_path, [{"labels": cell} for cell in ("joy", None, ["anger"])])
    assert read(tmp_path).test.labels.tolist() == empty
    write_objects(tmp_path, [{"labels": cell} for cell in ("joy", float("nan"), "anger")])
    assert read(tmp_path).test.labels.tolist() == empty == [[0, 1], [0, 0], [1, 0]]


def test_ids_that_pandas_made_floats(tmp_path):
    write_cells(tmp_path, ["2.0", "0.0", "1.0"], listed=True)
    assert read(tmp_path).test.labels.argmax(axis=1).tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ["joy", "anger;joy", "anger"],
            "train.csv:3: the label 'anger;joy' looks like anger and joy.*separator=",
        ),
        (["x;y", "z", "w"], "train.csv:2: the label 'x;y' looks like x and y"),
        (["joy", "anger", "anger # joy"], "train.csv:4: .*anger and joy, joined by '#'.*labels.txt"),
        (["joy", "anger/joy", "anger"], "anger and joy, joined by '/'"),
        (["joy", "anger joy", "anger"], "anger and joy, joined by ' '"),
        (["joy", *["a, b"] * 3], "train.csv:3: a, b occur 3 times.*label_separator=none.*label_separator=,"),
        (["['joy', anger'", "joy"], "train.csv:2: the label .* looks like a part of a list"),
        (["[joy", "['joy' + 'x']", "joy"], "train.csv:3: looks like a list, but cannot be read"),
        (["[" * 5000 + "]" * 5000, "joy"], "train.csv:2: looks like a list, but cannot be read"),
        (["[0, 2]", "[1]"], r"numbers \(0, 1, 2\).*labels.txt"),
        (["1.0", "2.0"], r"numbers \(1, 2\).*labels.txt"),
    ],
)
def test_cells_with_two_readings_are_refused(tmp_path, cells, message):
    write_cells(tmp_path, cells)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("separator", "cells", "names"),
    [
        (";", ["joy;anger", "joy", "a,b"], ("a,b", "anger", "joy")),
        (",", ["a, b", "a, b", "a, b"], ("a", "b")),
        ("none", ["a, b", "a, b", "c|d"], ("a, b", "c|d")),
        ("#", ["joy#anger", "joy", "joy/anger"], ("anger", "joy", "joy/anger")),
    ],
)
def test_the_separator_decides(tmp_path, separator, cells, names):
    write_cells(tmp_path, cells)
    assert read(tmp_path, label_separator=separator).label_names == names


def test_rows_that_cannot_be_read_are_named_before_labels_that_look_odd(tmp_path):
    write_cells(tmp_path, ["['joy' + 'x']", "1", "2"])
    with pytest.raises(DataError, match=r"3 faulty rows.*\n.*train\.csv:2: looks like a list"):
        read(tmp_path)


def test_listed_names_may_have_any_sign(tmp_path):
    write_cells(tmp_path, ["fear, anxiety", "joy/pride", "joy, [sic]", "[sic]"])
    (tmp_path / "labels.txt").write_text("joy\nfear, anxiety\njoy/pride\n[sic]")
    assert read(tmp_path).test.labels.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 1]]


def test_a_listed_name_in_a_joined_cell_names_the_separator(tmp_path):
    write_cells(tmp_path, ["joy;anger", "joy"], listed=True)
    with pytest.raises(DataError, match=r"'joy;anger': not in the list of labels; label_separator=';' splits it"):
        read(tmp_path)


@pytest.mark.parametrize("column", ["label", "labels"])
def test_the_column_label_is_found(tmp_path, column):
    write_cells(tmp_path, ["joy", "anger"], column=column)
    assert read(tmp_path).label_names == ("anger", "joy")


def test_another_column_is_named(tmp_path):
    write_cells(tmp_path, ["joy", "anger"], column="mood")
    with pytest.raises(DataError, match=r"neither text nor 0/1 labels: `mood`.*label_column"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"neither a column `moods`.*got `text`, `mood`"):
        read(tmp_path, label_column="moods")


ONE_HOT = ["text", "anger", "joy"]


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("1.0", "0.0"), ("True", "False"), ("true", " 0 ")])
def test_columns_of_labels_have_one_meaning_in_every_spelling(tmp_path, yes, no):
    write_csv(tmp_path, ONE_HOT, [("a", yes, no), ("b", no, yes), ("c", no, no)])
    assert read(tmp_path).test.labels.tolist() == [[1, 0], [0, 1], [0, 0]]


def test_columns_of_labels_may_have_fractions_and_gaps(tmp_path):
    write_csv(tmp_path, ONE_HOT, [("a", "1", "0.75"), ("b", "-1", "0.25"), ("c", "", "0"), ("d", "-1", "-1")])
    data = read(tmp_path)
    assert data.test.labels.tolist() == [[1, 0.75], [0, 0.25], [0, 0]]
    assert data.test.observed.tolist() == [[True, True], [False, True], [False, True]]
    assert data.warnings[0].startswith("Rows without an annotated label are left out: 1 of train.csv")


def test_columns_that_are_no_labels_are_named_together(tmp_path):
    rows = [("a", 0, "me", 2020, 1, 0), ("b", 1, "you", 2021, 0, 1), ("c", 2, "me", 2022, 0, 0)]
    write_csv(tmp_path, ["text", "", "author", "created", "anger", "joy"], rows)
    with pytest.raises(DataError, match=r"train\.csv has columns .*: `author`, `created`.*labels.txt"):
        read(tmp_path)
    (tmp_path / "labels.txt").write_text("anger\njoy")
    data = read(tmp_path)
    assert data.test.labels.tolist() == [[1, 0], [0, 1], [0, 0]]
    assert data.warnings == ("A column without a name is not read: train.csv, dev.csv, test.csv.",)


def test_rows_that_an_annotator_rejected_are_left_out(tmp_path):
    answers = ["accept", "reject", "accept", "ignore"]
    write_objects(
        tmp_path, [{"labels": [name], "answer": answer} for name, answer in zip("abcd", answers, strict=True)]
    )
    data = read(tmp_path)
    assert data.label_names == ("a", "c")
    assert data.warnings[0].startswith("Rows whose `answer` is reject or ignore are left out: 2 of train.jsonl")


@pytest.mark.parametrize("bad", [["x", "x", "y"], ["x", "", "y"], [0.5, 1.5, 2.5], [None, None, None]])
def test_an_id_column_that_cannot_identify_rows_is_not_used(tmp_path, bad):
    objects = [{"labels": [name], "id": row} for name, row in zip("abc", bad, strict=True)]
    write_objects(tmp_path, objects)
    data = read(tmp_path)
    assert data.dev.example_ids == ("dev-1", "dev-2", "dev-3")
    assert "`id`" in data.warnings[0]


def test_a_column_with_too_many_labels_is_refused_before_memory_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.data.sources.rows._MAX_VALUES", 26)
    write_cells(tmp_path, ["u1", "u2", "u3"])
    with pytest.raises(DataError, match=r"got 3 labels and 9 rows.*u1, u2, u3.*label_column"):
        read(tmp_path)
