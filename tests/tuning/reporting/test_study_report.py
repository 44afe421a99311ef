"""The report of a search shows trials, finals and winner, escapes all text and needs no network."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import optuna
import pytest
import yaml
from optuna.trial import TrialState
from study_helpers import make_search, make_study, make_trial

from trainer.reporting.report import DASH, Estimate
from tuning.finals.statistics import FinalRun
from tuning.reporting.report import StudyReport, write_report
from tuning.study.trials import scored

SCORES = {5: (0.53, 0.54, 0.55), 9: (0.51, 0.52, None)}


@pytest.fixture(scope="module")
def data():
    finals = [
        FinalRun(trial=trial, seed=seed, score=score, run_id=f"{trial}-{seed}")
        for trial, scores in SCORES.items()
        for seed, score in enumerate(scores, start=1)
    ]
    return StudyReport(
        name="emotionen-größe",
        objective_label="dev macro F1",
        study=make_search(24),
        finals=finals,
        winner=5,
        winner_settings={"loss": "asl", "learning_rate": 0.0002, "note": "größer"},
        test_scores={"macro F1": Estimate(0.5012, 0.4711, 0.5304)},
        facts={"workers": 4, "storage": "a file"},
    )


@pytest.fixture(scope="module")
def html(data, tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("report") / "new" / "report.html", data).read_text("utf-8")


class Page(HTMLParser):
    """Tags with their attributes, the cells of every table, and the text a reader sees."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.rows, self._skipped = [], "", [], False
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._skipped = tag in {"style", "script"}
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag):
        self._skipped = False
        self._inside = self._inside and tag != "table"

    def handle_data(self, data):
        if not self._skipped:
            self.text += data
            if self._inside:
                self.rows[-1][-1] += data.strip()


def write(data, tmp_path):
    return Page(write_report(tmp_path / "report.html", data).read_text("utf-8"))


def test_the_page_has_all_data(html):
    page = Page(html)
    expected = (
        "emotionen-größe",
        "best of 17",
        "The most important parameters",
        "loss is not finite",
        "0.5400",
        "0.5012",
        f"0.4711{DASH}0.5304",
        "a file",
    )

    assert [word for word in expected if word not in page.text] == []
    settings = re.search(r"<pre><code>(.*?)</code></pre>", html, re.DOTALL)[1]
    assert yaml.safe_load(settings) == {"loss": "asl", "learning_rate": 0.0002, "note": "größer"}


def test_finals_are_in_order_with_intervals_and_dashes(html):
    rows = [row for row in Page(html).rows if row and row[0] in {"5winner", "9"} and len(row) == 6]

    assert rows[0] == ["5winner", "0.5400", f"0.5152{DASH}0.5648", "0.5300", "0.5400", "0.5500"]
    assert rows[1][1:] == ["0.5150", f"0.4515{DASH}0.5785", "0.5100", "0.5200", DASH]


def test_one_seed_has_no_interval(data, tmp_path):
    page = write(replace(data, study=make_study(), finals=data.finals[:1]), tmp_path)

    assert ["5winner", "0.5300", DASH, "0.5300"] in page.rows


def test_every_trial_has_a_row_with_a_dash_for_a_missing_value(html, data):
    page = Page(html)
    head = next(row for row in page.rows if row and row[:2] == ["trial", "state"])
    rows = [dict(zip(head, row, strict=True)) for row in page.rows[page.rows.index(head) + 1 :]]

    assert [int(row["trial"]) for row in rows] == list(range(24))
    assert {row["state"] for row in rows} == {"complete", "pruned", "failed", "running"}
    assert rows[3]["dev macro F1"] == DASH  # pruned
    assert rows[23]["seconds"] == rows[23]["run"] == DASH  # running
    assert all((row["ratio"] == DASH) == (row["loss"] == "asl") for row in rows)
    assert rows[10]["cause of failure"] == "loss is not finite at step 40"


def test_nothing_is_loaded_from_elsewhere(html):
    for tag, attributes in Page(html).tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        for name in ("src", "srcset", "action", "data"):
            assert name not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    assert "default-src 'none'" in html
    assert "@import" not in html.partition("<body>")[0]


def test_plotly_is_inside_once_and_only_where_there_is_a_figure(html, tmp_path, data):
    assert html.count("* plotly.js v") == 1
    empty = write_report(tmp_path / "empty.html", replace(data, study=make_study())).read_text("utf-8")
    assert "plotly.js v" not in empty
    assert len(empty) < 50_000


def test_links_in_the_page_lead_somewhere(html):
    tags = Page(html).tags
    targets = {attributes["href"][1:] for _, attributes in tags if "href" in attributes}

    assert len(targets) == 7
    assert targets <= {attributes.get("id") for _, attributes in tags}


def test_all_text_is_escaped(data, tmp_path):
    evil = '<script>alert("x")</script><img src=//evil.example/a.png>'
    space = {"x": optuna.distributions.CategoricalDistribution([evil, "b"])}
    study = make_study(
        make_trial(0.5, {"x": evil}, space, runs={"42": evil}),
        make_trial(0.4, {"x": "b"}, space),
        make_trial(state=TrialState.FAIL, cause=evil),
    )
    poisoned = replace(
        data,
        name=evil,
        objective_label=evil,
        study=study,
        winner_settings={evil: evil},
        test_scores={evil: Estimate(0.5)},
        facts={evil: evil},
    )
    page, clean = write(poisoned, tmp_path), write(replace(data, study=study), tmp_path)

    for tag in ("script", "img"):
        assert [name for name, _ in page.tags].count(tag) == [name for name, _ in clean.tags].count(tag)
    assert page.text.count('<script>alert("x")</script>') >= 12


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("directions", [("maximize",), ("maximize", "minimize")])
def test_small_studies_have_a_whole_page(count, directions, tmp_path):
    data = StudyReport(
        name="small",
        objective_label="dev macro F1",
        other_objectives=["seconds"][: len(directions) - 1],
        study=make_search(count, directions=directions),
    )
    page = write(data, tmp_path)

    assert page.tags[-1][0] == "script"
    assert "param importances: it needs 8 complete trials" in page.text
    assert "No finals were run" in page.text
    assert f"With {len(scored(data.study))} complete trial" in page.text
    assert "good trials" not in page.text
    assert not re.search(r"\bnan\b|None\b", page.text)


def test_a_retried_trial_is_listed_and_not_counted(data, tmp_path):
    study = make_study(make_trial(0.5), make_trial(0.9, surplus=True))
    page = write(replace(data, study=study), tmp_path)

    assert "1 trial: 1 complete." in page.text
    assert "Trial 0 is the best" in page.text
    assert any(row[:2] == ["1", "requeued"] for row in page.rows)
