"""Every input format to every output format: columns, values and types."""

import csv
import datetime
import decimal
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batch_jobs import NAMES, FakeModel, probabilities
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TEXTS = ["so proud of you", "naïve 😀 text", 'with "quotes", and\na line']
ADDED = ["predicted_labels", "probability_joy", "probability_grief"]


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def write_csv(path, rows, delimiter=","):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


@pytest.fixture
def inputs(job):
    """The same three rows in every format."""
    rows = [{"id": f"00{i}", "text": text} for i, text in enumerate(TEXTS)]
    write_csv(job.folder / "in.csv", [["id", "text"], *(row.values() for row in rows)])
    write_csv(job.folder / "in.tsv", [["id", "text"], *(row.values() for row in rows)], "\t")
    job.write("in.jsonl", "\n".join(json.dumps(row) for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), job.folder / "in.parquet")
    return rows


@pytest.mark.parametrize("target", ["out.csv", "out.tsv", "out.jsonl", "out.parquet"])
@pytest.mark.parametrize("source", ["in.csv", "in.tsv", "in.jsonl", "in.parquet"])
def test_every_format_to_every_format(job, inputs, source, target):
    assert job.run(source, target)[0] == 0
    rows = read(job.folder / target)
    assert [list(row) for row in rows] == [["id", "text", *ADDED]] * 3
    assert [(row["id"], row["text"]) for row in rows] == [(row["id"], row["text"]) for row in inputs]
    found = [[float(row[f"probability_{name}"]) for name in NAMES] for row in rows]
    np.testing.assert_array_equal(found, probabilities(TEXTS))
    labels = [[name for name, p in zip(NAMES, row, strict=True) if p >= 0.5] for row in probabilities(TEXTS)]
    as_text = target.endswith(("csv", "tsv"))
    assert [row["predicted_labels"] for row in rows] == (["|".join(one) for one in labels] if as_text else labels)


@pytest.mark.parametrize("target", ["out.csv", "out.tsv", "out.jsonl", "out.parquet"])
def test_columns_have_the_names_of_the_labels(job, inputs, target):
    names = ('say "hi", ok', "喜び", "line\nbreak", "tab\there", "a|b", "joy'", "", "L" * 300)
    job.model = FakeModel(names)
    assert job.run("in.csv", target)[0] == 0
    rows = read(job.folder / target)
    assert list(rows[0]) == ["id", "text", "predicted_labels", *(f"probability_{name}" for name in names)]
    labels = [json.loads(row["predicted_labels"]) if target[-2:] == "sv" else row["predicted_labels"] for row in rows]
    assert [len(one) for one in labels] == (probabilities(TEXTS, len(names)) >= 0.5).sum(axis=1).tolist()


def test_lines_of_text(job):
    job.write("in.txt", "\ufeffone\r\ntwo\u2028still two\nthree")
    assert job.run("in.txt", text_column="comment")[0] == 0
    assert [row["comment"] for row in job.rows()] == ["one", "two\u2028still two", "three"]


def test_json_objects_keep_their_spelling(job):
    first = '{"text": "a", "big": 123456789012345678901234567890, "small": 1.50, "deep": {"x": [1, {"y": null}]}}'
    job.write("in.jsonl", f'{first}\n\n  {{ "text":"b","z":1E5 }}  \n')
    assert job.run("in.jsonl")[0] == 0
    lines = (job.folder / "out.jsonl").read_text().splitlines()
    assert lines[0].startswith(first[:-1] + ', "predicted_labels": ')
    assert lines[1].startswith('{ "text":"b","z":1E5, "predicted_labels": ')


def test_json_columns_are_the_union_and_mixed_ones_are_text(job):
    rows = [
        {"text": "a", "n": 1, "x": 0.5, "mixed": 1, "flag": True},
        {"text": "b", "n": 2, "x": 2, "mixed": "1", "deep": {"k": ["é"]}, "late": None},
        {"text": None, "n": "not counted: this row is rejected"},
        {"text": "c", "large": 2**80, "x": None},
    ]
    job.write("in.jsonl", "\n".join(map(json.dumps, rows)))
    assert job.run("in.jsonl", "out.parquet")[0] == 3
    table = pq.read_table(job.folder / "out.parquet")
    assert table.column_names == ["text", "n", "x", "mixed", "flag", "deep", "late", "large", *ADDED]
    columns = table.to_pydict()
    assert (columns["n"], columns["x"], columns["flag"]) == ([1, 2, None], [0.5, 2.0, None], [True, None, None])
    assert (columns["mixed"], columns["deep"]) == (["1", '"1"', None], [None, '{"k": ["é"]}', None])
    assert (columns["late"], columns["large"]) == ([None] * 3, [None, None, str(2**80)])
    assert job.run("in.jsonl", "out.csv")[0] == 3
    assert [row["mixed"] for row in read(job.folder / "out.csv")] == ["1", '"1"', ""]
    assert [row["flag"] for row in read(job.folder / "out.csv")] == ["true", "", ""]


def test_csv_columns_of_numbers_are_numbers_in_parquet(job):
    header = "text,likes,score,code,version,empty,big,mixed,whole\n"
    rows = ["2016,3,0.5,007,1.10,,123456789012345678901,1,1.0\n", "1,,-2.25,8,2,,1,one,2.5\n", "3,-4,1e-7,9,3,,,,3.0\n"]
    job.write("in.csv", header + "".join(rows))
    assert job.run("in.csv", "out.parquet", chunk_rows=1)[0] == 0
    table = pq.read_table(job.folder / "out.parquet")
    kinds = {field.name: str(field.type) for field in table.schema if field.name not in ADDED}
    assert {name for name, kind in kinds.items() if kind == "string"} == {
        "text",
        "code",
        "version",
        "empty",
        "mixed",
        "big",
    }
    assert (kinds["likes"], kinds["score"], kinds["whole"]) == ("int64", "double", "double")
    assert table["likes"].to_pylist() == [3, None, -4]
    assert table["score"].to_pylist() == [0.5, -2.25, 1e-7]
    assert not any(field.metadata for field in table.schema)
    assert job.run("in.csv", "out.csv")[0] == 0
    found = [",".join(list(row.values())[: -len(ADDED)]) + "\n" for row in read(job.folder / "out.csv")]
    assert found == rows


@pytest.fixture
def typed(job):
    """A Parquet file with types that no text format has, in several row groups."""
    when = datetime.datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=datetime.UTC)
    table = pa.table(
        {
            "text": pa.array(["a", "b", None, "c"]).dictionary_encode(),
            "when": pa.array([when, None, when, when], pa.timestamp("ns", tz="UTC")),
            "price": pa.array([decimal.Decimal("1.10")] * 4, pa.decimal128(9, 2)),
            "half": pa.array([1.5, float("nan"), None, 2.0], pa.float32()),
            "raw": pa.array([b"\xff\x00"] * 4),
            "deep": pa.array([{"k": [1, None], "f": float("inf")}] * 4),
            "lookup": pa.array([[("k", 1)]] * 4, pa.map_(pa.string(), pa.int8())),
            "small": pa.array([1, 2, 3, 4], pa.uint8()),
        }
    )
    pq.write_table(table, job.folder / "in.parquet", row_group_size=2)
    return table


def test_parquet_types_stay(job, typed):
    assert job.run("in.parquet", "out.parquet", chunk_rows=1)[0] == 3
    found = pq.read_table(job.folder / "out.parquet")
    kept = typed.take([0, 1, 3])
    assert found.schema.names[:8] == kept.schema.names
    for name in kept.schema.names:
        assert found.schema.field(name).type == kept.schema.field(name).type
        assert str(found[name].to_pylist()) == str(kept[name].to_pylist())
    rejected = job.rejects("out.parquet")[0]["content"]
    assert rejected.startswith("text: None, when: ")
    assert found.schema.field("predicted_labels").type == pa.list_(pa.string())
    assert job.rejects("out.parquet") == [{"row": 3, "reason": "text is null", "content": rejected}]


def test_parquet_types_as_text(job, typed):
    assert job.run("in.parquet")[0] == 3
    row = job.rows()[0]
    assert (row["when"], row["price"], row["raw"]) == ("2024-02-29T12:30:01.000005+00:00", "1.10", "/wA=")
    assert (row["deep"], row["lookup"], row["small"]) == ({"k": [1, None], "f": None}, [["k", 1]], 1)
    assert job.rows()[1]["half"] is None
    assert job.run("in.parquet", "out.csv")[0] == 3
    row, *others = read(job.folder / "out.csv")
    assert (row["when"], row["price"], row["half"]) == ("2024-02-29T12:30:01.000005+00:00", "1.10", "1.5")
    assert [other["text"] for other in others] == ["b", "c"]  # c follows a rejected row, the first of its row group
    assert json.loads(row["lookup"]) == [["k", 1]]


@pytest.mark.parametrize("names", [("joy|pride", "grief"), ("", "grief")])
def test_labels_in_csv_are_json_where_the_separator_would_not_do(job, names):
    job.model = FakeModel(names)
    job.write("in.txt", "a")
    assert job.run("in.txt", "out.csv", threshold=0)[0] == 0
    assert [json.loads(row["predicted_labels"]) for row in read(job.folder / "out.csv")] == [list(names)]


CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
TEXT_CELLS = CELLS.map(lambda text: f"t{text}")
RELAXED = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@RELAXED
@given(rows=st.lists(st.tuples(CELLS, TEXT_CELLS), min_size=1, max_size=8), chunk=st.integers(1, 3))
def test_any_csv_content_stays(job, rows, chunk):
    write_csv(job.folder / "in.csv", [["id", "text"], *rows])
    assert job.run("in.csv", "out.csv", chunk_rows=chunk, overwrite="true")[0] == 0
    assert [(row["id"], row["text"]) for row in read(job.folder / "out.csv")] == rows


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | CELLS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(CELLS, inner, max_size=2),
    max_leaves=4,
)


@RELAXED
@given(rows=st.lists(st.dictionaries(CELLS, VALUES, max_size=3), min_size=1, max_size=6), ascii_only=st.booleans())
def test_any_json_content_stays(job, rows, ascii_only):
    rows = [{**row, "text": f"t{i}"} for i, row in enumerate(rows)]
    job.write("in.jsonl", "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows))
    assert job.run("in.jsonl", overwrite="true")[0] == 0
    assert [{name: value for name, value in row.items() if name not in ADDED} for row in job.rows()] == rows
    assert job.run("in.jsonl", "out.parquet", overwrite="true")[0] == 0
    table = pq.read_table(job.folder / "out.parquet")
    assert set(table.column_names) == {name for row in rows for name in row} | set(ADDED)
