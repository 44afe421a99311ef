import csv
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.core.errors import DataError, SettingsError
from trainer.data.config import DataConfig
from trainer.data.dataset import ROLES, OverlapReport
from trainer.data.sources import load

LABELS = ["anger", "joy", "sadness"]


def read(folder, **settings):
    return load(DataConfig(dataset=str(folder), **settings), seed=0)


def indicators(labels):
    return [str(int(name in labels)) for name in LABELS]


def write_csv_names(folder, rows, to_csv, separator="|"):
    for role, part in rows.items():
        table = [["text", "labels"], *([text, separator.join(labels)] for text, labels in part)]
        (folder / f"{role}.csv").write_text(to_csv(table), encoding="utf-8", newline="")


def write_csv_commas(folder, rows, to_csv):
    write_csv_names(folder, rows, to_csv, separator=", ")


def write_csv_ids(folder, rows, to_csv):
    (folder / "labels.txt").write_text("\n".join(LABELS))
    by_id = {
        role: [(text, [str(LABELS.index(x)) for x in labels]) for text, labels in part] for role, part in rows.items()
    }
    write_csv_names(folder, by_id, to_csv)


def write_csv_columns(folder, rows, to_csv):
    for role, part in rows.items():
        table = [["joy", "text", "anger", "sadness"]]
        table += [[flags[1], text, flags[0], flags[2]] for text, labels in part for flags in [indicators(labels)]]
        (folder / f"{role}.csv").write_text("\ufeff" + to_csv(table), encoding="utf-8", newline="")


def write_tsv_with_header(folder, rows, to_csv):
    for role, part in rows.items():
        table = [["labels", "text"], *(["|".join(labels), text] for text, labels in part)]
        (folder / f"{role}.tsv").write_text(to_csv(table, "\t"), encoding="utf-8", newline="")


def write_jsonl_names(folder, rows, _):
    for role, part in rows.items():
        lines = [json.dumps({"text": text, "labels": labels}) for text, labels in part]
        (folder / f"{role}.jsonl").write_text("\n".join(lines) + "\n\n")


def write_jsonl_ids(folder, rows, _):
    (folder / "emotions.txt").write_text("\n".join(LABELS) + "\n")
    for role, part in rows.items():
        lines = [json.dumps({"labels": [LABELS.index(x) for x in labels], "text": text}) for text, labels in part]
        (folder / f"{role}.jsonl").write_text("\n".join(lines))


def write_parquet(folder, rows, _):
    for role, part in rows.items():
        table = pa.table({"text": [text for text, _ in part], "labels": [labels for _, labels in part]})
        pq.write_table(table, folder / f"{role}.parquet")


def write_parquet_columns(folder, rows, _):
    for role, part in rows.items():
        columns = {name: [name in labels for _, labels in part] for name in LABELS}
        pq.write_table(pa.table({"text": [text for text, _ in part], **columns}), folder / f"{role}.parquet")


WRITERS = [
    write_csv_names,
    write_csv_commas,
    write_csv_ids,
    write_csv_columns,
    write_tsv_with_header,
    write_jsonl_names,
    write_jsonl_ids,
    write_parquet,
    write_parquet_columns,
]


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_every_format_gives_the_same_data(writer, tmp_path, small_rows, to_csv):
    writer(tmp_path, small_rows, to_csv)
    data = read(tmp_path)
    assert data.label_names == tuple(LABELS)
    for role, part in small_rows.items():
        split = getattr(data, role)
        assert split.texts == tuple(text for text, _ in part)
        assert split.labels.tolist() == [[float(name in labels) for name in LABELS] for _, labels in part]
        assert split.observed.all()
        assert all(row_id.startswith(f"{role}-") for row_id in split.example_ids)
    assert data.digests["test"] == "3ad0e76a2083590e8c377b766f0045393e392afd6509e5a3e54dde252c184468"
    assert (data.name, data.source, data.licence) == (tmp_path.name, str(tmp_path), "not stated")


@pytest.mark.parametrize("name", ["dev", "validation", "val", "valid"])
def test_dev_may_have_one_of_several_names(name, tmp_path, small_rows, to_csv):
    write_csv_names(tmp_path, small_rows, to_csv)
    (tmp_path / "dev.csv").rename(tmp_path / f"{name}.csv")
    assert len(read(tmp_path).dev) == 2


def test_example_ids_come_from_the_id_column_or_name_split_and_line(tmp_path, small_rows, to_csv):
    write_csv_names(tmp_path, small_rows, to_csv)
    assert read(tmp_path).train.example_ids == ("train-2", "train-3", "train-4", "train-5", "train-7")
    (tmp_path / "dev.csv").write_text("ID,text,labels\nx1,so glad,joy\nx2,go away,anger\n")
    assert read(tmp_path).dev.example_ids == ("x1", "x2")


def test_columns_may_have_other_names(write):
    content = "utterance,emotion\nhello,joy\nbye,sadness\n"
    folder = write(train__csv=content, dev__csv="utterance,emotion\nhi,joy\n", test__csv="utterance,emotion\nhey,joy\n")
    data = read(folder, text_column="utterance", label_column="emotion")
    assert (data.label_names, data.train.texts) == (("joy", "sadness"), ("hello", "bye"))


LEAKY = {
    "train__csv": "text,labels\nThanks!,joy\nunique,joy\nthanks,joy\nsee you,joy\n",
    "dev__csv": "text,labels\nThanks!,joy\n",
    "test__csv": "text,labels\nSee you.,joy\nnew,joy\n",
}
COUNTS = {"dev_exact": 1, "dev_normalised": 1, "test_exact": 0, "test_normalised": 1}


def test_leaks_are_dropped_from_train_only(write):
    data = read(write(**LEAKY))
    assert (data.train.texts, data.train.example_ids) == (("unique",), ("train-3",))
    assert (len(data.dev), len(data.test)) == (1, 2)
    assert data.overlap == OverlapReport(**COUNTS, dropped=3)


def test_leaks_are_kept_and_reported_on_request(write):
    data = read(write(**LEAKY), overlap="keep")
    assert len(data.train) == 4
    assert data.overlap == OverlapReport(**COUNTS, dropped=0, dev_left=1, test_left=1)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("THANKS,joy\nsee you,joy\n", "All 2 examples of train have their text in dev or test.* overlap=keep"),
        ("thanks,grief\nunique,joy\n", r"All train examples of these labels .*: grief \(1\)\..* overlap=keep"),
    ],
)
def test_dropping_leaks_is_named_as_the_cause(write, train, message):
    folder = write(**(LEAKY | {"train__csv": f"text,labels\n{train}"}))
    with pytest.raises(DataError, match=message):
        read(folder)


def test_texts_with_different_labels_are_counted(write):
    rows = "text,labels\nwell,joy\nwell,grief\nwell,joy\nsame,joy\nsame,joy\n"
    (warning,) = read(write(**(LEAKY | {"train__csv": rows}))).warnings
    assert warning.startswith("1 texts occur several times in train with different labels")
    assert '"well"' in warning


def test_leaks_left_in_train_are_counted_after_the_sample(write):
    data = read(write(**LEAKY), overlap="keep", max_train_rows=1)
    (text,) = data.train.texts
    assert (data.overlap.dev_left, data.overlap.test_left) == (int("anks" in text), int("see" in text))


class TestWithDev:
    """Dev is trained on too."""

    @pytest.fixture
    def folder(self, write):
        return write(
            train__csv="id,text,labels\n1,a day,joy\n2,a night,grief\n",
            dev__csv="id,text,labels\n1,so glad,joy\n2,THE END!,grief\n",
            test__csv="id,text,labels\n1,the end,joy\n2,a morning,joy\n",
        )

    def load(self, folder, **settings):
        return load(DataConfig(dataset=str(folder), **settings), seed=0, with_dev=True)

    def test_its_examples_follow_those_of_train_without_texts_of_test(self, folder):
        data, held_out = self.load(folder), read(folder)
        assert data.trained_on.texts == ("a day", "a night", "so glad")
        assert data.trained_on.example_ids == ("train/1", "train/2", "dev/1")
        assert data.trained_on.labels.tolist() == [[0, 1], [1, 0], [0, 1]]
        assert data.trained_on.observed.all()
        assert data.digests == held_out.digests
        assert held_out.trained_on is held_out.train
        assert data.overlap.dropped == held_out.overlap.dropped + 1
        facts = data.facts()
        assert facts["rows"] == {"train": 2, "dev": 2, "test": 2}
        assert (facts["rows_trained_on"], facts["left_in_train"]) == (3, {"test": 0})

    def test_texts_of_test_are_a_leak_where_they_are_kept(self, folder):
        facts = self.load(folder, overlap="keep").facts()
        assert (facts["rows_trained_on"], facts["left_in_train"]) == (4, {"test": 1})
        assert read(folder, overlap="keep").facts()["left_in_train"] == {"dev": 0, "test": 0}

    def test_a_sample_of_train_leaves_dev_whole(self, write):
        rows = "".join(f"text {row},joy\n" for row in range(9))
        folder = write(
            train__csv=f"text,labels\n{rows}", dev__csv="text,labels\nso glad,joy\n", test__csv="text,labels\nx,joy\n"
        )
        data = self.load(folder, max_train_rows=3)
        assert len(data.train) == 3
        assert data.trained_on.texts == (*data.train.texts, "so glad")


def test_a_sample_of_train_is_seeded_and_leaves_dev_and_test_alone():
    whole = load(DataConfig(), seed=0)
    one, same, other = (load(DataConfig(max_train_rows=200), seed=seed) for seed in (1, 1, 2))
    assert len(one.train) == 200
    assert set(one.train.example_ids) < set(whole.train.example_ids)
    assert one.train.labels.any(axis=0).all()
    assert one.digests == same.digests
    assert one.train.digest != other.train.digest
    assert (one.dev.digest, one.test.digest) == (whole.dev.digest, whole.test.digest)
    assert load(DataConfig(max_train_rows=5000), seed=0).digests == whole.digests


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("startr", r"dataset.* got startr\. Did you mean starter\?"),
        ("no/such/folder", r"got no/such/folder\. .*no/such "),
        ("trainer/data/{}/x", "trainer/data"),
        ("pyproject.toml", "dataset.* got the file pyproject.toml"),
        ("", "dataset.* must not be empty"),
        ("~nosuch", "dataset.* got ~nosuch"),
        ("x" * 5000, "dataset.* got x+.*File name too long"),
        ("/", "contains no file for train, dev, test"),
        ("/dev", "contains no file for train, dev, test"),
    ],
)
def test_an_unknown_data_set_is_refused(dataset, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    with pytest.raises((DataError, SettingsError), match=message) as caught:
        load(DataConfig(dataset=dataset), seed=0)
    assert len(str(caught.value)) <= 350


def test_the_error_of_a_wrong_folder_lists_its_neighbours(tmp_path):
    for name in ("goemotions", "meld", ".hidden"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=r"Folders in .*: goemotions, meld\."):
        read(tmp_path / "goemotion")


def test_a_folder_has_no_revision(write):
    with pytest.raises(SettingsError, match=r"dataset_revision.* empty for a local folder, got main"):
        read(write(**LEAKY), dataset_revision="main")


def test_goemotions_is_read_as_pandas_reads_it(shared_data):
    import pandas as pd

    data = read(shared_data / "goemotions", overlap="keep")
    assert [len(getattr(data, role)) for role in ROLES] == [43_410, 5_426, 5_427]
    assert data.overlap.test_exact == 37
    assert data.label_names == tuple((shared_data / "goemotions" / "labels.txt").read_text().split())
    for role in ROLES:
        split = getattr(data, role)
        table = pd.read_csv(
            shared_data / "goemotions" / f"{role}.tsv", sep="\t", header=None, keep_default_na=False, dtype=str
        )
        assert split.texts == tuple(table[0])
        assert split.example_ids == tuple(table[2])
        assert [",".join(map(str, np.flatnonzero(row))) for row in split.labels] == [
            ",".join(map(str, sorted(map(int, ids.split(","))))) for ids in table[1]
        ]
    assert data.train.labels.sum(axis=0).max() == 14_219
    assert data.test.labels[:, data.label_names.index("grief")].sum() == 6


def test_semeval_is_read_with_its_examples_without_labels(shared_data):
    data = read(shared_data / "semeval2018_ec", overlap="keep")
    assert [len(getattr(data, role)) for role in ROLES] == [6_838, 886, 3_259]
    assert [int((getattr(data, role).labels.sum(axis=1) == 0).sum()) for role in ROLES] == [204, 14, 75]
    with (shared_data / "semeval2018_ec" / "2018-E-c-En-dev.txt").open(encoding="utf-8", newline="") as file:
        table = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert data.label_names == tuple(table[0][2:])
    assert data.dev.texts == tuple(row[1] for row in table[1:])
    assert data.dev.labels.tolist() == [[float(cell) for cell in row[2:]] for row in table[1:]]


def test_semeval_without_gold_labels_is_refused(write):
    header = "ID\tTweet\tanger\tjoy\n"
    folder = write(
        **{
            "2018-E-c-En-train.txt": header + 'a\t"hi\t1\t1\n',
            "2018-E-c-En-dev.txt": header + "b\thow\t0\t1\n",
            "2018-E-c-En-test.txt": header + "c\tare\tNONE\tNONE\n",
        }
    )
    with pytest.raises(DataError, match=r"2018-E-c-En-test.txt:2: label column 'anger' .*'NONE'"):
        read(folder)
    (folder / "2018-E-c-En-test-gold.txt").write_text(header + "c\tare\t0\t0\n")
    assert (read(folder).train.texts, read(folder).test.labels.tolist()) == (('"hi',), [[0.0, 0.0]])


def test_only_regular_files_of_the_folder_and_its_folders_are_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "train.csv")
    for name in ("dev.csv", "test.csv"):
        (tmp_path / name).write_text("text,labels\nhi,joy\n")
    with pytest.raises(DataError, match=r"train\.csv must be a regular file"):
        read(tmp_path)
    (tmp_path / "train.csv").unlink()
    (tmp_path / "train.csv").symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"train\.csv must be a regular file"):
        read(tmp_path)
    (tmp_path / "train.csv").unlink()
    with (tmp_path / "train.csv").open("wb") as file:
        file.write(b"t")
        file.truncate(2**40)  # sparse: it needs no disk
    with pytest.raises(DataError, match=r"train\.csv must have at most 8 GiB, got 1024"):
        read(tmp_path)


def test_a_folder_is_searched_one_level_deep(tmp_path):
    deep = tmp_path / "one" / "two"
    deep.mkdir(parents=True)
    (deep / "train.parquet").touch()
    with pytest.raises(DataError, match="contains no file for train, dev, test, only one"):
        read(tmp_path)
