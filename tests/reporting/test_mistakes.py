"""The sections of a report that are read from the tables of a run."""

import pytest

from trainer.core import artifacts
from trainer.core.text_files import write_table
from trainer.reporting import mistakes
from trainer.reporting.report import Estimate, Mistake, SliceScore, SuspectedCount, SuspectedError


def error(number, kind="missed", role="test"):
    return {
        "text": f"text {number}",
        "mistake": kind,
        "label": "joy",
        "probability": 0.1,
        "labels": "joy",
        "predicted": "",
        "split": role,
    }


def suspicion(number, quality, example_id):
    return {
        "text": f"text {number}",
        "labels": "joy",
        "suspected": "wrong",
        "label": "joy",
        "probability": quality,
        "quality": quality,
        "id": example_id,
        "split": "dev",
    }


def test_the_first_mistakes_of_each_kind_are_shown(tmp_path):
    rows = [error(n) for n in range(12)] + [error(20, "predicted"), error(30, role="dev")]
    write_table(tmp_path / artifacts.ERRORS, rows)
    found = mistakes.confident_mistakes(tmp_path, "test")
    assert [row.text for row in found] == ["text 20", *(f"text {n}" for n in range(8))]
    assert found[0] == Mistake(text="text 20", mistake="predicted", label="joy", probability=0.1, labels="joy")


def test_slices_without_a_score_stay_without_one(tmp_path):
    about = {"slice_by": "words", "examples": 9, "few": True, "labels": 0}
    missing = {f"{name}{end}": None for name in ("macro_f1", "micro_f1") for end in ("", "_low", "_high")}
    known = dict.fromkeys(missing, 0.5) | {"subset_accuracy": 0.25}
    write_table(tmp_path / artifacts.SLICES, [about | {"slice": "1-4"} | known, about | {"slice": "5-8"} | missing])
    first, second = mistakes.slice_scores(tmp_path)
    assert (first.macro_f1, first.subset_accuracy) == (Estimate(0.5, 0.5, 0.5), 0.25)
    assert second == SliceScore(
        slice_by="words",
        name="5-8",
        examples=9,
        few=True,
        labels=0,
        macro_f1=Estimate(None),
        micro_f1=Estimate(None),
    )


def test_the_first_suspected_annotations_of_each_kind_are_shown_a_text_once(tmp_path):
    rows = [suspicion(0, 0.01, "a"), suspicion(1, 0.02, "b"), suspicion(0, 0.03, "a")]
    rows += [suspicion(n, 0.1 + n / 100, str(n)) for n in range(2, 20)]
    rows += [suspicion(30, 0.4, "c") | {"suspected": "missing"}]
    write_table(tmp_path / artifacts.LABEL_ERRORS, rows)
    found = mistakes.suspected_errors(tmp_path)
    assert [row.text for row in found] == [*(f"text {n}" for n in range(8)), "text 30"]
    assert found[0] == SuspectedError(
        text="text 0", labels="joy", suspected="wrong", label="joy", probability=0.01, split="dev"
    )


def test_labels_with_most_suspected_annotations_come_first(tmp_path):
    rows = [
        {"label": label, "positives": 9, "suspected_wrong": wrong, "suspected_missing": 2, "examples": 50}
        for label, wrong in (("joy", 1), ("grief", 4))
    ]
    write_table(tmp_path / artifacts.LABEL_ERROR_COUNTS, rows)
    assert mistakes.suspected_counts(tmp_path) == [
        SuspectedCount(label="grief", positives=9, wrong=4, missing=2),
        SuspectedCount(label="joy", positives=9, wrong=1, missing=2),
    ]


@pytest.mark.parametrize("read", [mistakes.slice_scores, mistakes.suspected_errors, mistakes.suspected_counts])
def test_a_run_without_the_table_has_no_such_section(tmp_path, read):
    assert read(tmp_path) == []
