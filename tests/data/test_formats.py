"""Training and prediction read the same texts from the same rows, whatever the format."""

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from registry.scoring.readers import open_reader
from trainer.core.errors import DataError
from trainer.data.config import DataConfig
from trainer.data.sources import load

ROWS = [
    ('"open quote', "joy"),
    ('she said "no"', "grief"),
    ('it ends with a quote"', "joy"),
    ("comma, semicolon; and 'apostrophe'", "grief"),
    ("caf\u00e9 \u2028 \u6012\u308a", "joy"),
    ("long " * 40_000, "grief"),
]
TEXTS = tuple(text for text, _ in ROWS)


def delimited(delimiter, **options):
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator="\r\n", **options).writerows([("text", "labels"), *ROWS])
    return file.getvalue().encode()


def raw_tabs():
    return "\n".join("\t".join(row) for row in [("text", "labels"), *ROWS]).encode()


def json_lines():
    return "\n".join(json.dumps({"text": text, "labels": label}, ensure_ascii=False) for text, label in ROWS).encode()


def parquet():
    file = io.BytesIO()
    pq.write_table(pa.table({"text": [text for text, _ in ROWS], "labels": [label for _, label in ROWS]}), file)
    return file.getvalue()


FORMATS = {
    "commas.csv": delimited(","),
    "capital.CSV": delimited(","),
    "bom.csv": b"\xef\xbb\xbf" + delimited(","),
    "semicolons.csv": delimited(";"),
    "excel.csv": b"sep=;\r\n" + delimited(";"),
    "padded.csv": delimited(",").replace(b"text,labels", b"text , labels"),
    "quoted.tsv": delimited("\t"),
    "raw.tsv": raw_tabs(),
    "lines.jsonl": json_lines(),
    "lines.ndjson": json_lines(),
    "lines.json": json_lines(),
    "table.parquet": parquet(),
}


def write_splits(folder: Path, suffix: str, content: bytes) -> None:
    for role in ("train", "dev", "test"):
        (folder / f"{role}{suffix}").write_bytes(content)


@pytest.mark.parametrize("name", FORMATS)
def test_training_and_prediction_read_the_same_rows(tmp_path, name):
    write_splits(tmp_path, Path(name).suffix, FORMATS[name])
    split = load(DataConfig(dataset=str(tmp_path), overlap="keep"), seed=0).test
    (chunk,) = open_reader(tmp_path / f"test{Path(name).suffix}", "text").chunks(100)
    assert split.texts == tuple(chunk.texts) == TEXTS
    assert not chunk.rejects
    assert split.labels.argmax(axis=1).tolist() == [["grief", "joy"].index(label) for _, label in ROWS]


def latin_1():
    return "text,labels\ncaf\u00e9,joy\nna\u00efve,joy\n".encode("latin-1")


def not_utf8_parquet():
    file = io.BytesIO()
    text = pa.array([b"good", b"caf\xe9", b"fine"]).cast(pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": text, "labels": ["joy"] * 3}), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", latin_1(), "Windows-1252: iconv -f WINDOWS-1252"),
        ("x.csv", latin_1().decode("latin-1").encode("utf-16"), "is UTF-16. Convert it: iconv -f UTF-16"),
        ("x.tsv", latin_1().decode("latin-1").encode("utf-16"), "is UTF-16. Convert it: iconv -f UTF-16"),
        ("x.jsonl", '{"text": "a"}'.encode("utf-16-le"), "bytes of zero"),
        ("x.csv", b"what a day,joy\n", "no column `text`, got `what a day`, `joy`.* must name the columns"),
        ("x.json", b'\n[{"text": "a"}]', "is one array. Convert it: jq"),
        ("x.parquet", not_utf8_parquet(), "train.parquet:2: row is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_remedy(tmp_path, name, content, message):
    write_splits(tmp_path, Path(name).suffix, content)
    with pytest.raises(DataError, match=message):
        load(DataConfig(dataset=str(tmp_path)), seed=0)


def test_rows_between_two_stray_quotes_are_read(tmp_path):
    lines = ["text\tlabels", '"what a day\tjoy', "i cry\tgrief", 'he left"\tgrief', '"two\nlines"\tjoy']
    write_splits(tmp_path, ".tsv", "\n".join(lines).encode())
    texts = ('"what a day', "i cry", 'he left"', "two\nlines")
    assert load(DataConfig(dataset=str(tmp_path), overlap="keep"), seed=0).train.texts == texts
    assert [text for chunk in open_reader(tmp_path / "test.tsv", "text").chunks(9) for text in chunk.texts] == [*texts]
