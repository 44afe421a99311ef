"""The report shows every number it is given, escapes all text and asks the network for nothing."""

import base64
import re
from dataclasses import fields, replace
from html.parser import HTMLParser

import pytest

from trainer.reporting import report
from trainer.reporting.report import (
    Estimate,
    Headline,
    LabelScore,
    Mistake,
    Picture,
    PolicyScore,
    ReportData,
    SliceScore,
    SuspectedCount,
    SuspectedError,
)

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "curves.png").write_bytes(PNG)
    return ReportData(
        run_name="quiet-otter-7",
        run_id="3f2a9c0e5d7b",
        finished="2025-01-02 03:04 UTC",
        headlines=[
            Headline(name="macro F1", estimate=Estimate(0.5312, 0.5189, 0.5437)),
            Headline(name="calibration error", estimate=Estimate(0.0061), before=0.0312, remark="temperature 1.31"),
        ],
        policies=[
            PolicyScore(name="fixed", test_macro_f1=Estimate(0.4623), test_micro_f1=Estimate(0.5719)),
            PolicyScore(
                name="per_label",
                test_macro_f1=Estimate(0.5254, 0.512, 0.5391),
                test_micro_f1=Estimate(0.6003, 0.5905, 0.6098),
                dev_macro_f1=0.5181,
                dev_optimism=0.0317,
                chosen=True,
            ),
        ],
        labels=[
            LabelScore(
                name="joy",
                support=1161,
                f1=Estimate(0.613, 0.571, 0.652),
                precision=0.633,
                recall=0.594,
                average_precision=0.627,
                threshold=0.347,
                calibration_gap=Estimate(0.0712, -0.0123, 0.1534),
            ),
            LabelScore(name="grief", support=0, f1=Estimate(None), precision=float("nan")),
        ],
        mistakes=[Mistake(text="not again", mistake="missed", label="grief", probability=0.02, labels="grief, anger")],
        slices=[
            SliceScore(
                slice_by="all",
                name="all",
                examples=5427,
                few=False,
                labels=28,
                macro_f1=Estimate(0.4416, 0.4, 0.5),
                micro_f1=Estimate(0.55),
            ),
            SliceScore(
                slice_by="dialogue",
                name="d17",
                examples=21,
                few=True,
                labels=0,
                macro_f1=Estimate(None),
                micro_f1=Estimate(None),
                subset_accuracy=0.286,
            ),
        ],
        label_errors=[
            SuspectedError(
                text="so glad!", labels="", suspected="missing", label="delight", probability=0.987, split="dev"
            )
        ],
        label_error_counts=[SuspectedCount(label="relief", positives=1766, wrong=272, missing=613)],
        settings={"Data": {"train rows": 43410, "digest": "9f0c2b1d"}, "Loss": {"loss": "combined", "ratio": 0.7}},
        overlap={"test rows also in train": 31},
        all_settings={"fit": {"learning_rate": 0.00012}},
        environment={"Machine": {"python": "3.11.7", "cuda": None}, "Packages": {"torch": "2.13.0"}},
        summary=["Macro F1 on test is fair."],
        load_code='model = mlflow.pyfunc.load_model("models:/emotions@champion")',
        pictures=[Picture(path=tmp_path / "curves.png", caption="Loss over training")],
        warnings=["grief has no test example"],
    )


class Page(HTMLParser):
    """Tags with their attributes, and the text a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._skipped = "", False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._skipped = tag in {"style", "script"}

    def handle_endtag(self, tag):
        self._skipped = False

    def handle_data(self, data):
        self.text += "" if self._skipped else f"{data}\n"


def write(data, tmp_path) -> str:
    return report.write_report(tmp_path / "out" / "report.html", data).read_text("utf-8")


def test_every_given_thing_is_on_the_page(data, tmp_path):
    text = Page(write(data, tmp_path)).text
    expected = (
        "quiet-otter-7 3f2a9c0e5d7b 2025-01-02 0.531 0.006 0.031 temperature 0.462 0.572 0.525 0.600 0.518 +0.032 "
    )
    expected += (
        "joy 1,161 0.613 0.633 0.594 0.627 0.347 grief 43,410 9f0c2b1d combined 0.7 31 3.11.7 emotions@champion "
    )
    expected += "again missed 0.02 anger +0.071 5,427 0.442 dialogue d17 few 0.286 "
    expected += "glad! delight 0.987 relief 1,766 272 613 "
    expected += "0.00012 2.13.0 fair. "
    pairs = [(0.519, 0.544), (0.512, 0.539), (0.591, 0.61), (0.571, 0.652)]
    expected += " ".join(report.interval(Estimate(None, low, high)) for low, high in pairs)
    missing = [word for word in expected.split() if word not in text]
    assert missing == []
    assert "Loss over training" in text
    assert "grief has no test example" in text


def test_only_the_chosen_policy_is_marked(data, tmp_path):
    html = write(data, tmp_path)
    rows = re.findall(r'<tr class="chosen"><td>(\w+)', html)
    assert rows == ["per_label"]


def test_missing_numbers_are_dashes_and_sort_last(data, tmp_path):
    html = write(data, tmp_path)
    row = re.search(r"<tr><td data-key=\"grief\">.*?</tr>", html).group()
    assert row.count(f">{report.DASH}<") == 6
    assert row.count('data-key=""') == 7
    assert "nan" not in row
    assert "None" not in row


def test_all_text_is_escaped(data, tmp_path):
    evil = '<script>alert("x")</script><img src=//evil.example/a.png>'
    label = replace(data.labels[0], name=evil)
    policy = replace(data.policies[0], name=evil)
    headline = replace(data.headlines[0], name=evil, remark=evil)
    picture = replace(data.pictures[0], caption=evil)
    poisoned = replace(
        data,
        **{f.name: evil for f in fields(data) if isinstance(getattr(data, f.name), str)},
        mistakes=[Mistake(text=evil, mistake=evil, label=evil, probability=0.5, labels=evil)],
        slices=[replace(data.slices[1], slice_by=evil, name=evil)],
        label_errors=[SuspectedError(text=evil, labels=evil, suspected=evil, label=evil, probability=0.5, split=evil)],
        label_error_counts=[replace(data.label_error_counts[0], label=evil)],
        overlap={evil: evil},
        **{name: {evil: {evil: evil}} for name in ("settings", "all_settings", "environment")},
        summary=[evil],
        labels=[label],
        policies=[policy],
        headlines=[headline],
        pictures=[picture],
        warnings=[evil],
    )
    page, clean = Page(write(poisoned, tmp_path)), Page(write(data, tmp_path))
    for tag in ("script", "img"):
        assert [name for name, _ in page.tags].count(tag) == [name for name, _ in clean.tags].count(tag) == 1
    assert page.text.count('<script>alert("x")</script>') >= 14


def test_nothing_is_loaded_from_elsewhere(data, tmp_path):
    html = write(data, tmp_path)
    for tag, attributes in Page(html).tags:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in ("src", "srcset", "action", "data"):
            assert (attributes.get(name) or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"https?://|@import|url\(", html)
    assert "default-src 'none'" in html


def test_picture_is_inside_the_page(data, tmp_path):
    assert base64.b64encode(PNG).decode() in write(data, tmp_path)
    with pytest.raises(FileNotFoundError):
        write(replace(data, pictures=[Picture(path=tmp_path / "none.png", caption="")]), tmp_path)


def test_page_without_pictures_warnings_or_extras_is_whole(data, tmp_path):
    html = write(replace(data, pictures=(), warnings=(), headlines=data.headlines[:1]), tmp_path)
    assert "<figure>" not in html
    assert "before calibration" not in html
    assert html.rstrip().endswith("</html>")


def test_links_in_the_page_lead_somewhere(data, tmp_path):
    tags = Page(write(data, tmp_path)).tags
    targets = {attributes["href"][1:] for _, attributes in tags if "href" in attributes}
    assert len(targets) == 11
    assert targets <= {attributes.get("id") for _, attributes in tags}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (False, "no"),
        (43410, "43,410"),
        (1e-4, "0.0001"),
        (None, report.DASH),
        (("a", 2), "a, 2"),
        ("x", "x"),
    ],
)
def test_settings_are_written_as_people_do(value, text):
    assert report.show(value) == text
