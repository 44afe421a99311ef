"""The card: facts of the run folder, limits that the scores call for, and no markup from data."""

import json
import re

import matplotlib.image
import numpy as np
import pytest

from trainer.core import artifacts
from trainer.reporting.report import DASH, Estimate, Headline, LabelScore, Picture, PolicyScore, ReportData
from trainer.serving import model_card

EVIL = '<script>alert("x")</script> | ![a](//evil.example/a.png) [b](javascript:b) `c` **d** \n# e'
FACTS = {
    artifacts.CONFIG: {
        "preset": "starter",
        "model": "minilm",
        "loss": "asl",
        "seed": 7,
        "max_length": 64,
        "overlap": "drop",
    }
    | {"ratio": 0.25},
    artifacts.ENVIRONMENT: {
        "python": "3.11.7",
        "platform": "Linux",
        "packages": {"torch": "2.13.0"},
        "git_commit": "f00d",
    },
    artifacts.DATASET: {
        "name": "moods",
        "source": "owner/moods@main",
        "licence": "CC BY 4.0",
        "label_names": ["joy", "grief", "awe"],
        "rows": {"train": 43410, "dev": 5426, "test": 5427},
        "digests": {"train": "a" * 64, "dev": "b" * 64, "test": "c" * 64},
        "overlap": {
            "dev_exact": 1,
            "dev_normalised": 21,
            "test_exact": 3,
            "test_normalised": 41,
            "test_in_dev_normalised": 5,
            "dropped": 77,
        },
        "left_in_train": {"dev": 0, "test": 0},
    },
    artifacts.CALIBRATION: {"method": "platt", "temperature": 1.3125, "bias": -0.4375, "reason": ""}
    | {
        role: {
            "before": {"ece": 0.0812, "ece_likely": 0.1725, "brier": 0.0613},
            "after": {"ece": 0.0214, "ece_likely": 0.0305, "brier": 0.0515},
        }
        for role in ("dev", "test")
    },
}


def label(name, support, value, low=None, high=None):
    return LabelScore(name=name, support=support, f1=Estimate(value, low, high), precision=value, threshold=0.375)


@pytest.fixture
def folder(tmp_path):
    for name, content in FACTS.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / artifacts.FIGURES).mkdir()
    matplotlib.image.imsave(tmp_path / artifacts.FIGURES / "reliability.png", np.zeros((2, 2)))
    return tmp_path


@pytest.fixture
def report(folder):
    return ReportData(
        run_name="moods",
        run_id="3f2a9c0e",
        finished="2025-01-02 03:04 UTC",
        headlines=[Headline(name="macro F1", estimate=Estimate(0.5312, 0.5189, 0.5437))],
        policies=[
            PolicyScore(name="fixed", test_macro_f1=Estimate(0.4623), test_micro_f1=Estimate(0.5719)),
            PolicyScore(name="per_label", test_macro_f1=Estimate(0.5254), test_micro_f1=Estimate(0.6003), chosen=True),
        ],
        labels=[label("joy", 1161, 0.613, 0.571, 0.652), label("grief", 6, 0.25, 0.0, 0.75), label("awe", 0, None)],
        settings={},
        overlap={},
        environment={},
        load_code="",
        pictures=[Picture(path=folder / artifacts.FIGURES / "reliability.png", caption="")],
    )


def write(folder, report):
    model_card.write_card(folder, report)
    return tuple((folder / name).read_text() for name in (artifacts.MODEL_CARD, artifacts.MODEL_CARD_PAGE))


def change(folder, file, **changes):
    (folder / file).write_text(json.dumps(FACTS[file] | changes))


def test_everything_is_on_the_card_and_on_the_page(folder, report):
    expected = "moods owner/moods@main 43,410 21 41 77 3f2a9c0e f00d asl 0.531 0.462 0.525 0.613 1,161 0.375"
    expected += f" 1.312 0.0812 0.0515 2.13.0 0.25 models:/emotions@champion per_label {'a' * 64} {'b' * 64} {'c' * 64}"
    for text in write(folder, report):
        assert [word for word in expected.split() if word not in text] == []
        assert "CC BY 4.0" in text


def test_settings_that_matter_come_first(folder, report):
    text, _ = write(folder, report)
    places = [text.index(f"| {name} |") for name in ("preset", "model", "loss", "max_length", "seed", "ratio")]
    assert places == sorted(places)


def test_limits_name_the_labels_that_the_numbers_point_at(folder, report):
    text, _ = write(folder, report)
    limits = text[text.index("## Limits") : text.index("## Policies")]
    assert f"grief (6 positives, 0.00{DASH}0.75)" in limits
    assert "below 0.4: grief (0.25)." in limits
    assert "cannot measure: awe." in limits
    assert "joy" not in limits
    assert "Leak" not in limits
    assert "Code:" not in limits
    assert "must not decide about individuals" in limits


def test_a_leak_and_changed_code_are_limits(folder, report):
    change(folder, artifacts.DATASET, left_in_train={"dev": 1, "test": 2})
    change(folder, artifacts.CONFIG, overlap="keep")
    change(folder, artifacts.ENVIRONMENT, git_dirty=True)
    text, _ = write(folder, report)
    assert "3 examples of dev and test are also in train (overlap=keep)" in text
    assert "f00d with uncommitted changes" in text


def test_a_run_trained_on_dev_has_a_card_without_scores_there(folder, report):
    change(folder, artifacts.DATASET, left_in_train={"test": 0})
    calibration = json.loads((folder / artifacts.CALIBRATION).read_text())
    del calibration["dev"]
    (folder / artifacts.CALIBRATION).write_text(json.dumps(calibration))
    text, _ = write(folder, ReportData(**{**vars(report), "warnings": ["Dev: trained on."]}))
    assert "- Dev: trained on." in text[text.index("## Limits") : text.index("## Policies")]
    assert "left were 0 of test." in text
    assert "| test | 0.0812 | 0.0214 | 0.1725 | 0.0305 | 0.0613 | 0.0515 |" in text
    assert "sigmoid(logit / 1.312 - 0.438) (method platt, fitted on dev)" in text
    assert "| dev | 0.0812" not in text


def test_nothing_given_becomes_markup(folder, report):
    names = ("name", "source", "licence")
    change(folder, artifacts.DATASET, **dict.fromkeys(names, EVIL))
    change(folder, artifacts.CONFIG, ratio=EVIL, model=EVIL)
    change(folder, artifacts.ENVIRONMENT, platform=EVIL, packages={EVIL: EVIL}, git_commit=EVIL)
    plain = write(folder, report)
    _, page = write(folder, ReportData(**{**vars(report), "labels": [label(EVIL, 3, 0.1, 0.0, 0.9)], "finished": EVIL}))
    assert page.count("<img") == plain[1].count("<img") == 1
    for tag in ("<script", "<a ", "<strong", "<em"):
        assert tag not in page
    assert page.count("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;") >= 9
    rows = re.findall(r"<tr>\n(.*?)</tr>", page[page.index("<h2>Labels") : page.index("<h2>Calibration")], re.DOTALL)
    assert [row.count("</t") for row in rows] == [8, 8]


def test_the_page_needs_no_other_file(folder, report):
    _, page = write(folder, report)
    assert "data:image/png;base64," in page
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?!data:)|url\(|@import', page)


def test_a_card_without_figure_is_whole(folder, report):
    text, page = write(folder, ReportData(**{**vars(report), "pictures": ()}))
    assert "![" not in text
    assert "<img" not in page
    assert "## Environment" in text
