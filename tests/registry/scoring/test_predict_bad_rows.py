"""Each row is either scored or rejected with a reason, and a rejected row costs no other row."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.scoring import readers

CSV = """id,text\r
1,good\r
2,
3,"  "
4,too,many
5

6,"two
lines"
7,"never closed
8,good
9,"closed" late
10,good
"""
JSONL = r"""{"id": 1, "text": "good"}
{"id": 2}
{"id": 3, "text": null}
{"id": 4, "text": 5}
{"id": 5, "text": "\t"}
{"id": 6, "text": "cut

["id", 7]
{"id": 8, "text": "half \ud83d"}
{"id": 9, "text": "whole \ud83d\ude00"}
{"id": 10, "text": "good", "n": NINES}
""".replace("NINES", "9" * 5000)


def reasons(job, name="out.jsonl"):
    return {row["row"]: row["reason"] for row in job.rejects(name)}


def test_csv(job):
    job.write("in.csv", CSV.encode() + b"11,caf\xe9\n12,caf\xc3\xa9")
    status, said = job.run("in.csv")
    assert status == 3
    assert [row["id"] for row in job.rows()] == ["1", "6", "8", "10", "12"]
    assert job.rows()[1]["text"] == "two\nlines"
    assert reasons(job) == {
        2: "text is blank",
        3: "text is blank",
        4: "row must have 2 fields, but has 3",
        5: "row must have 2 fields, but has 1",
        7: "row cannot be split into columns (',' expected after '\"')",
        9: "row cannot be split into columns (',' expected after '\"')",
        11: "row is not UTF-8",
    }
    assert [(row["line"], row["content"]) for row in job.rejects()][-3:] == [
        (10, '7,"never closed\n'),
        (12, '9,"closed" late\n'),
        (14, "11,caf\\xe9\n"),
    ]
    assert "Scored 5 of 12 rows" in said
    assert "Rejected rows: 7. Their reasons are in" in said
    assert "out.jsonl.rejects.jsonl (exit status 3)" in said


def test_json_lines(job):
    job.write("in.jsonl", JSONL.encode() + b'{"id": 11, "text": "caf\xe9"}\n' + b"[" * 100_000)
    assert job.run("in.jsonl")[0] == 3
    assert [row["id"] for row in job.rows()] == [1, 9]
    found = reasons(job)
    assert [found[row] for row in (2, 3, 4, 5, 7, 8, 11)] == [
        "text is missing",
        "text is null",
        "text must be a string, but is of type int",
        "text is blank",
        "row is not a JSON object",
        "row has an escape that is half of a character",
        "row is not UTF-8",
    ]
    assert found[6].startswith("row is not JSON (Invalid control character")
    assert found[10].startswith("row is not usable JSON (a number has more than 4,300 digits")
    assert found[12].startswith("row is not usable JSON (nested too deeply")
    assert job.rejects()[5]["line"] == 8  # after a blank line
    assert all(len(row["content"]) <= 203 for row in job.rejects())


def test_plain_text(job):
    job.write("in.txt", b"good\n\n \ncaf\xe9\nlast\n")
    assert job.run("in.txt")[0] == 3
    assert [row["text"] for row in job.rows()] == ["good", "last"]
    assert reasons(job) == {2: "text is blank", 3: "text is blank", 4: "row is not UTF-8"}


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_parquet(job, kind):
    values = pa.array([b"good", None, b" ", b"caf\xe9", b"also good"])
    buffers = values.buffers()
    broken = pa.Array.from_buffers(pa.string(), 5, buffers)  # as a careless writer would
    table = pa.table({"text": broken if kind == pa.string() else values.cast(pa.string(), safe=False).cast(kind)})
    pq.write_table(table, job.folder / "in.parquet")
    assert job.run("in.parquet", "out.parquet", chunk_rows=2)[0] == 3
    assert pq.read_table(job.folder / "out.parquet")["text"].to_pylist() == ["good", "also good"]
    assert reasons(job, "out.parquet") == {2: "text is null", 3: "text is blank", 4: "row is not UTF-8"}


def test_parquet_of_numbers(job):
    pq.write_table(pa.table({"text": [1, 2]}), job.folder / "in.parquet")
    status, said = job.run("in.parquet")
    assert status == 1
    assert "all 2 are listed" in said
    assert reasons(job) == dict.fromkeys((1, 2), "text must be a string, but is of type int")
    assert job.files() == ["in.parquet", "out.jsonl.rejects.jsonl"]


def test_a_long_text_is_scored_and_large_rows_make_small_chunks(job, monkeypatch):
    monkeypatch.setattr(readers, "_MAX_CHUNK", 2**20)
    texts = [f"{i} {'long ' * 40_000}" for i in range(12)]
    job.write("in.csv", "text\n" + "\n".join(texts))
    assert job.run("in.csv")[0] == 0
    assert job.model.scored == texts
    assert max(map(len, job.model.calls)) == 6


def test_rejects_of_an_earlier_job_are_removed(job):
    job.write("in.txt", "good\n\n")
    assert job.run("in.txt")[0] == 3
    job.write("in.txt", "good\n")
    assert job.run("in.txt", overwrite="true")[0] == 0
    assert job.files() == ["in.txt", "out.jsonl"]


GOOD = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5).map(lambda text: f'"{text}",good'.encode())
BAD = st.sampled_from([b"1", b"1,2,3", b"1,", b'"open,1', b'"a"b,1', b"\xff,good", b"1,\xe9"])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(GOOD.map(lambda line: line.replace(b'"', b"")) | BAD, min_size=1, max_size=8))
def test_every_csv_row_is_scored_or_rejected_once(job, lines):
    good = [
        line for line in lines if line.endswith(b",good") and not line.startswith(b"\xff") and line.count(b",") == 1
    ]
    job.write("in.csv", b"id,text\n" + b"\n".join(lines) + b"\n")
    status, _ = job.run("in.csv", chunk_rows=3, overwrite="true")
    assert status == (1 if not good else 3 if len(good) < len(lines) else 0)
    scored = job.rows() if good else []
    assert [f"{row['id']},{row['text']}".encode() for row in scored] == good
    rejected = [row["row"] for row in job.rejects()]
    assert rejected == [row for row, line in enumerate(lines, start=1) if line not in good]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), min_size=1, max_size=8))
def test_any_bytes_are_scored_or_rejected(job, lines):
    rows = [line for line in [b'{"text": "one"}', *lines] if line.decode("latin-1").strip()]
    job.write("in.jsonl", b"\n".join([b'{"text": "one"}', *lines]))
    assert job.run("in.jsonl", overwrite="true")[0] in (0, 3)
    assert len(job.rows()) + len(job.rejects()) >= 1
    assert json.loads(json.dumps(job.rows()))[0]["text"] == "one"
    assert len(job.rows()) + len(job.rejects()) <= len(rows) + len(lines)
