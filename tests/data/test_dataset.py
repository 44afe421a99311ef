import json

import numpy as np
import pytest

from trainer.core.errors import DataError
from trainer.data.dataset import ROLES, Dataset, OverlapReport, Split


def split(texts=("a", "b"), labels=((1, 0), (0, 1)), observed=None, example_ids=None):
    labels = np.array(labels, dtype=np.float32)
    observed = np.ones_like(labels, dtype=bool) if observed is None else np.array(observed)
    return Split(
        texts=tuple(texts),
        labels=labels,
        observed=observed,
        example_ids=example_ids or tuple(map(str, range(len(texts)))),
    )


def dataset(**changes):
    parts = {role: split() for role in ROLES}
    given = {"name": "x", "label_names": ("p", "q"), "source": "s", "licence": "l", "overlap": OverlapReport()}
    return Dataset(**(given | parts | changes))


def test_digest_is_stable_and_recorded():
    assert split().digest == split().digest
    assert split().digest == "d35247bec71e65196a7fc672d5697a4a8983453edfc48411398f269112200184"


@pytest.mark.parametrize(
    "other",
    [
        split(texts=("a", "c")),
        split(labels=((1, 0), (1, 0))),
        split(observed=((True, True), (True, False))),
        split(texts=("b", "a"), labels=((0, 1), (1, 0))),
    ],
    ids=["text", "label", "mask", "order"],
)
def test_digest_follows_content(other):
    assert other.digest != split().digest


def test_digest_depends_on_where_a_text_ends():
    assert split(texts=("ab", "c")).digest != split(texts=("a", "bc")).digest


def test_digest_ignores_example_ids_and_memory_layout():
    same = Split(
        texts=("a", "b"),
        labels=np.asfortranarray(np.eye(2, dtype=np.float32)),
        observed=np.ones((2, 2), dtype=bool),
        example_ids=("x", "y"),
    )
    assert same.digest == split().digest


def test_digests_of_a_dataset_go_by_role():
    data = dataset(dev=split(texts=("c", "d")))
    assert list(data.digests) == list(ROLES)
    assert data.digests["train"] == data.digests["test"] != data.digests["dev"]


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "two\nlines", "\x00", "\u2028", "\ud800", "labels", "text"])
def test_a_label_has_a_name_that_tables_and_figures_can_show(name):
    with pytest.raises(DataError, match="A label must have a name of 1 to 200"):
        dataset(label_names=("joy", name))
    assert dataset(label_names=("\u6012\u308a", "x" * 200)).label_names[0] == "\u6012\u308a"


def test_facts_are_json_and_count_what_is_left_in_train():
    facts = dataset(
        overlap=OverlapReport(dev_exact=1, dev_normalised=2, test_in_dev_normalised=3, dropped=0, dev_left=2)
    ).facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["left_in_train"] == {"dev": 2, "test": 0}
    assert facts["overlap"] == {
        "dev_exact": 1,
        "dev_normalised": 2,
        "test_exact": 0,
        "test_normalised": 0,
        "test_in_dev_exact": 0,
        "test_in_dev_normalised": 3,
        "dropped": 0,
    }
    assert facts["rows"] == {"train": 2, "dev": 2, "test": 2}
    assert facts["rows_trained_on"] == 2
    assert facts["observed"] == {"train": 1.0, "dev": 1.0, "test": 1.0}
    assert set(facts) == {
        *("name", "source", "revision", "licence", "label_names", "digests", "observed"),
        *("overlap", "left_in_train", "rows", "rows_trained_on", "warnings"),
    }


def test_take_keeps_examples_together():
    taken = split(texts=("a", "b", "c"), labels=((1, 0), (0, 1), (1, 1))).take(np.array([2, 0]))
    assert (taken.texts, taken.example_ids, taken.labels.tolist()) == (("c", "a"), ("2", "0"), [[1, 1], [1, 0]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: split(labels=((1, 2), (0, 1))), r"labels must be in \[0, 1\]"),
        (lambda: split(labels=((1, float("nan")), (0, 1))), r"labels must be in \[0, 1\], got .* NaN"),
        (lambda: split(texts=("a", " ")), "must not be blank, .* example 1 "),
        (lambda: split(example_ids=("0", "0")), "ids must be 2 distinct ones, got 1"),
        (lambda: split(observed=[[True, True]]), r"observed must have .* got \(2, 2\) and \(1, 2\)"),
        (lambda: split(observed=[[1, 1], [1, 1]]), "observed bool, got .*int64"),
        (lambda: dataset(label_names=("p", "p")), "Labels must be distinct .* got p, p"),
        (lambda: dataset(label_names=("p",)), "train must have .* got 2 columns for 1 labels"),
        (lambda: dataset(dev=split(texts=(), labels=np.zeros((0, 2)))), "no example in dev"),
        (lambda: dataset(train=split(labels=((1, 0), (1, 0)))), "without a single train example: q"),
        (
            lambda: dataset(train=split(observed=((True, True), (True, False)))),
            "without a single train example: q",
        ),
    ],
)
def test_inconsistent_parts_are_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()
