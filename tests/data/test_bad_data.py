"""Faults of a data set are reported before training: with file, line and value, all of them counted."""

import pytest

from trainer.core.errors import DataError
from trainer.data.config import DataConfig
from trainer.data.sources import load

GOOD = {
    "train__csv": "text,labels\nhello,joy\nbye,sadness\n",
    "dev__csv": "text,labels\nhi,joy\n",
    "test__csv": "text,labels\nhey,joy\n",
}
OFFICIAL = {
    "train__tsv": "hello\t0\ta\nbye\t1\tb\n",
    "dev__tsv": "hi\t0\tc\n",
    "test__tsv": "hey\t0,1\td\n",
    "labels__txt": "joy\nsadness",
}
JSON = {
    "train__jsonl": '{"text": "hello", "labels": ["joy"]}\n',
    "dev__jsonl": '{"text": "hi", "labels": ["joy"]}\n',
    "test__jsonl": '{"text": "hey", "labels": ["joy"]}\n',
}


def read(folder):
    return load(DataConfig(dataset=str(folder)), seed=0)


@pytest.mark.parametrize("files", [GOOD, OFFICIAL, JSON], ids=["csv", "official", "jsonl"])
def test_the_good_files_are_good(write, files):
    assert len(read(write(**files)).test) == 1


CASES = [
    # rows of files with a header
    (GOOD, {"dev__csv": "text,labels\nhi,joy,more\n"}, "dev.csv:2: needs 2 columns, but has 3: 'hi,joy,more'"),
    (GOOD, {"dev__csv": "text,labels\nhi\n"}, "dev.csv:2: needs 2 columns, but has 1: 'hi'"),
    (GOOD, {"dev__csv": "text,labels\nhi,rage\n"}, "dev.csv:2: unknown label 'rage': it does not appear in train"),
    (GOOD, {"labels__txt": "joy\nsadness", "dev__csv": "text,labels\nhi,rage\n"}, "'rage': not in the list of labels"),
    (
        GOOD,
        {"labels__txt": "joy\nsadness", "dev__csv": "text,labels\nhi,2\n"},
        "unknown label id '2': ids go from 0 to 1",
    ),
    (
        GOOD,
        {"train__csv": "text,labels\nhello,0\nbye,1\n"},
        r"numbers \(0, 1\).*labels\.txt",
    ),
    (GOOD, {"dev__csv": 'text,labels\n"  ",joy\n'}, "dev.csv:2: text is blank: '  '"),
    (GOOD, {"dev__csv": "text,labels\n,joy\n"}, "dev.csv:2: text is blank: ''"),
    (
        GOOD,
        {"dev__csv": None, "dev__jsonl": '{"text": "a \\ud83d", "labels": "joy"}\n'},
        "dev.jsonl:1: .*half of a character",
    ),
    (
        GOOD,
        {"dev__csv": b"text,labels\nhi \xff there,joy\n"},
        r"dev.csv:2: invalid UTF-8 at byte 4: b'hi \\xff there,joy'",
    ),
    (GOOD, {"dev__csv": 'text,labels\n"hi,joy\nho,joy\n'}, "dev.csv:2: cannot be split into columns"),
    # files as a whole
    (GOOD, {"dev__csv": ""}, "dev.csv must have rows"),
    (GOOD, {"dev__csv": "text,labels\n"}, "dev.csv:1: is an empty file"),
    (GOOD, {"dev__csv": "text,text\nhi,joy\n"}, "text more than once in .*dev.csv"),
    (
        GOOD,
        {"dev__csv": "words,labels\nhi,joy\n"},
        "dev.csv has no column `text`, got `words`, `labels`.*text_column",
    ),
    (GOOD, {"dev__csv": "text\nhi\n"}, "dev.csv .* column `labels` .* got `text`.*label_column"),
    (GOOD, {"dev__csv": None}, "no file for dev, only test.csv, train.csv"),
    (GOOD, {"dev__csv": None, "test__csv": None}, "no file for dev, test, only train.csv"),
    (GOOD, {"dev__jsonl": "{}"}, "files for dev: dev.csv, dev.jsonl"),
    (GOOD, {"dev__csv": None, "dev__parquet": b"PAR1 no"}, "dev.parquet must be readable as Parquet"),
    (GOOD, {"labels__txt": "joy\njoy\n"}, "labels.txt .* distinct .* got joy"),
    (GOOD, {"labels__txt": "\n"}, "labels.txt .* got none"),
    (GOOD, {"labels__txt": b"jo\xffy\n"}, "labels.txt: not UTF-8 at byte 3"),
    # labels
    (GOOD, {"labels__txt": "joy\nsadness\ngrief"}, "without a single train example: grief"),
    (GOOD, {"train__csv": "text,labels\nhello,\n"}, "unknown label 'joy': it does not appear in train"),
    (
        GOOD,
        {
            "train__csv": "text,joy,fear\nhello,1,1\n",
            "dev__csv": "text,joy\nhi,1\n",
            "test__csv": "text,joy,fear\nhey,1,0\n",
        },
        "`fear` only in train and none only in dev",
    ),
    (
        GOOD,
        {"labels__txt": "joy\nfear", "train__csv": "text,joy\nhello,1\n"},
        "train.csv .*label columns missing: `fear`",
    ),
    (
        GOOD,
        dict.fromkeys(GOOD, "text,joy\nhello,2\nhi,1\n"),
        "train.csv:2: label column 'joy' .*: '2'",
    ),
    # the official form
    (OFFICIAL, {"dev__tsv": "hi\t0\n"}, r"dev.tsv:1: needs 3 columns, but has 2: 'hi\\t0'"),
    (OFFICIAL, {"dev__tsv": "hi\t28\tc\n"}, "dev.tsv:1: unknown label id '28': ids go from 0 to 1"),
    (OFFICIAL, {"dev__tsv": "hi\t-1\tc\n"}, "dev.tsv:1: unknown label id '-1'"),
    (OFFICIAL, {"dev__tsv": "hi\t\tc\n"}, "dev.tsv:1: has no label id"),
    (OFFICIAL, {"dev__tsv": " \t0\tc\n"}, "dev.tsv:1: text is blank"),
    (OFFICIAL, {"dev__tsv": b"h\xe9\t0\tc\n"}, "dev.tsv:1: invalid UTF-8 at byte 2"),
    (OFFICIAL, {"labels__txt": None}, "labels.txt .* emotions.txt.* train.tsv"),
    # JSON lines
    (JSON, {"dev__jsonl": "{oops\n"}, "dev.jsonl:1: is not JSON"),
    (JSON, {"dev__jsonl": "[1]\n"}, "dev.jsonl:1: is not a JSON object"),
    (
        JSON,
        {"dev__jsonl": '{"text": "hi", "labels": [' + "9" * 5000 + "]}\n"},
        r"dev.jsonl:1: is not usable JSON \(a number",
    ),
    (JSON, {"dev__jsonl": "[" * 100_000}, r"dev.jsonl:1: is not usable JSON \(nested"),
    (JSON, {"dev__jsonl": '{"text": "hi", "labels": []}\n{"text": "ho"}\n'}, "dev.jsonl:2: has no 'labels'"),
    (JSON, {"dev__jsonl": '{"text": "hi", "labels": [true]}\n'}, r"dev.jsonl:1: unknown label id 1: labels have names"),
    (JSON, {"dev__jsonl": '{"text": "hi", "labels": [["joy"]]}\n'}, "dev.jsonl:1: labels must be names or ids: .*joy"),
    (JSON, {"dev__jsonl": '{"text": 7, "labels": []}\n'}, "dev.jsonl:1: text must be a string, but is of type int: 7"),
    (JSON, {"dev__jsonl": ""}, "dev.jsonl must have rows"),
    (
        JSON,
        {"train__jsonl": '{"text": "hello", "labels": [3]}\n'},
        r"numbers \(3\).*labels\.txt",
    ),
]


@pytest.mark.parametrize(("good", "changes", "message"), CASES)
def test_bad_input_is_named(write, good, changes, message):
    files = {name: content for name, content in (good | changes).items() if content is not None}
    with pytest.raises(DataError, match=message):
        read(write(**files))


def test_all_problems_of_all_files_are_counted_and_ten_are_shown(write):
    bad = b"text,labels\n" + b"".join(b"row %d,rage\n" % i for i in range(7)) + b"\xff,joy\n,joy\n"
    folder = write(**(GOOD | {"train__csv": "text,labels\nhello,joy\n,joy\n", "dev__csv": bad, "test__csv": bad}))
    with pytest.raises(DataError, match=r"19 faulty rows \(first 10 shown\)") as caught:
        read(folder)
    shown = str(caught.value).splitlines()[1:]
    assert len(shown) == 10
    assert len(set(shown)) == 10


def test_long_values_are_cut_in_the_message(write):
    folder = write(**(GOOD | {"dev__csv": "text,labels\nhi,joy," + "x" * 500 + "\n"}))
    with pytest.raises(DataError) as caught:
        read(folder)
    assert max(map(len, str(caught.value).splitlines()[1:])) < 140


def test_an_example_may_have_no_label(write):
    data = read(write(**(GOOD | {"dev__csv": "text,labels\nhi,\n"})))
    assert data.dev.labels.tolist() == [[0.0, 0.0]]


def test_quotes_without_meaning_and_long_texts_are_read(write):
    long = "long " * 40_000
    data = read(
        write(
            train__tsv='text\tlabels\n"open\tjoy\nbye\tsadness\n',
            dev__csv=f"text,labels\n{long},joy\n",
            test__csv="text,labels\nhey,joy\n",
        )
    )
    assert data.train.texts == ('"open', "bye")
    assert data.dev.texts == (long,)
