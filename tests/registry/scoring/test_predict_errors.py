"""Errors that stop a job name the setting and its value, and leave no file."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from registry import predict
from registry.scoring.config import LabelChoice, PredictConfig
from trainer.core import settings
from trainer.core.data_files import check_file
from trainer.core.errors import DataError

ONE_ROW = "text\ngood\n"


def assert_refused(job, source, *rules, target="out.jsonl", **settings):
    before = job.files()
    status, said = job.run(source, target, **settings)
    assert status == 1
    for rule in rules:
        assert rule in said
    assert job.files() == before
    assert job.model.scored == []


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("in.csv", "", "in.csv must have rows"),
        ("in.csv", "\n\n", "must be the column names in UTF-8"),
        ("in.csv", "text\n", "without any"),
        ("in.jsonl", "\n\n", "without any"),
        ("in.csv", "id,Text\n1,a\n", "column `text`, got"),
        ("in.csv", "id,Text\n1,a\n", "`id`, `Text`. Did you mean `Text`?"),
        ("in.jsonl", '{"comment": "a"}\n', "got `comment`."),
        ("in.csv", "text|labels\na|b\n", "separated by '|'"),
        ("in.csv", "text,id,id\na,1,2\n", "must differ, got id more than once"),
        ("in.csv", b"t\xe9xt\na\n", "must be the column names in UTF-8"),
        ("in.csv", '"text\na\n', "must be the column names in UTF-8"),
        ("in.csv", ONE_ROW.encode("utf-16"), "is UTF-16. Convert it: iconv"),
        ("in.parquet", b"PAR1 not really PAR1", "in.parquet must be readable as Parquet"),
        ("in.csv", "text,predicted_labels\na,b\n", "got predicted_labels"),
        ("in.jsonl", '{"text": "a", "probability_grief": 1}\n', "got probability_grief"),
        ("in.xlsx", "text\na\n", "`input` must end in .parquet, .csv, .tsv, .jsonl, .ndjson, .json, .txt"),
    ],
)
def test_input(job, name, content, rule):
    job.write(name, content)
    assert_refused(job, name, rule)


@pytest.mark.parametrize(("suffix", "content"), [("csv", ONE_ROW.encode("utf-16")), ("json", b"[]")])
def test_the_message_about_a_long_path_is_short(tmp_path, suffix, content):
    path = tmp_path / f"{'long name ' * 20}.{suffix}"
    path.write_bytes(content)

    with pytest.raises(DataError, match="Convert it") as caught:
        check_file(path)

    assert len(str(caught.value)) <= 300


def test_no_input_or_no_file(job):
    (job.folder / "in.csv").mkdir()
    os.mkfifo(job.folder / "pipe.csv")
    assert_refused(job, "in.csv", "must be a regular file")
    assert_refused(job, "pipe.csv", "must be a regular file")
    assert_refused(job, "none.csv", "Cannot read", "No such file")


def test_a_parquet_file_that_is_damaged_in_the_middle(job):
    pq.write_table(
        pa.table({"text": [f"text {i}" for i in range(5000)]}), job.folder / "in.parquet", compression="none"
    )
    content = bytearray((job.folder / "in.parquet").read_bytes())
    content[4:60] = b"\xff" * 56
    job.write("in.parquet", bytes(content))
    status, said = job.run("in.parquet")
    assert status == 1
    assert "in.parquet must be readable as Parquet" in said


def test_output(job):
    job.write("in.csv", ONE_ROW)
    assert_refused(job, "in.csv", "`output` must end in", target="out.txt")
    assert_refused(job, "in.csv", "`output` must be in a folder that exists", target="none/out.csv")
    assert_refused(job, "in.csv", "`output` must be another file than `input`", target="in.csv")
    job.write("out.csv", "mine")
    assert_refused(job, "in.csv", "which exists", "overwrite=true", target="out.csv")
    (job.folder / "folder.csv").mkdir()
    assert_refused(job, "in.csv", "`output` must be a new file", target="folder.csv", overwrite="true")
    assert job.run("in.csv", "out.csv", overwrite="true")[0] == 0
    assert "good" in (job.folder / "out.csv").read_text()


def test_the_rejects_of_a_job_are_not_its_input(job):
    job.write("out.jsonl.rejects.jsonl", '{"text": "a"}')
    assert_refused(job, "out.jsonl.rejects.jsonl", "`output` must be another file than `input`")


def test_a_folder_that_cannot_be_written(job, capsys):
    job.write("in.csv", ONE_ROW)
    assert predict.main([f"--input={job.folder / 'in.csv'}", "--output=/proc/out.csv"]) == 1
    assert "`output` /proc/out.csv" in capsys.readouterr().err


def test_a_full_disk_keeps_what_is_finished(job, monkeypatch):
    job.write("in.txt", "one\ntwo\n")
    with monkeypatch.context() as patch:
        patch.setattr(
            "registry.scoring.writers.concatenate", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
        )
        status, said = job.run("in.txt", chunk_rows=1)
    assert (status, job.files()) == (1, [".out.jsonl.parts", "in.txt"])
    assert "No space left" in said
    assert job.run("in.txt", chunk_rows=1)[0] == 0
    assert job.model.scored == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.csv", "id,text\n1,\n2, \n"),
        ("in.jsonl", '{"text": null}\n{"id": 2}'),
        ("in.jsonl", "not\nJSON"),
        ("in.txt", " \n\n"),
    ],
)
def test_all_rows_rejected(job, name, content):
    job.write(name, content)
    status, said = job.run(name)
    assert status == 1
    assert "all 2 are listed" in said
    assert [row["row"] for row in job.rejects()] == [1, 2]
    assert job.files() == [name, "out.jsonl.rejects.jsonl"]


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        ([], "`input` must name a file"),
        (["--input=a.csv"], "`output` must name a file"),
        (["--threshold=2"], "`threshold` must be in [0, 1]"),
        (["--threshold=nan"], "`threshold` must be in [0, 1]"),
        (["--top_k=-1"], "`top_k` must be in [0, 1000000]; 0 is all, got -1"),
        (["--chunk_rows=0"], "`chunk_rows` must be in [1, 10000000], got 0"),
        (["--text_column= "], "`text_column` must not be empty"),
        (["--model=models:/a/b/c"], "`model` must be models:/NAME@ALIAS"),
        (["--model=models:/emotions"], "`model` must be models:/NAME@ALIAS"),
        (["--model=models:/@champion"], "`model` must be models:/NAME@ALIAS"),
        (["--inptu=a.csv"], "Did you mean `input`"),
        (["--output=a.jsnol"], "Did you mean `.jsonl`"),
    ],
)
def test_settings(flags, rule, capsys):
    assert predict.main(flags) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert rule in " ".join(said.split())


def test_settings_not_given_are_left_to_the_model():
    assert settings.parse(PredictConfig, ["--policy="]).choice == LabelChoice()
    choice = PredictConfig(policy="fixed", threshold=0.0, top_k=2).choice
    assert choice == LabelChoice(policy="fixed", threshold=0.0, top_k=2)
