"""The report of a comparison: its numbers, its sentences, its figures, and the runs that have no score."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from compared_runs import LABELS, choose_on, make_plan, make_run

from trainer.core import artifacts
from trainer.core.errors import DataError
from trainer.evaluation import metrics
from trainer.evaluation.calibration import calibration_scores
from trainer.evaluation.calibration_fit import cross_fitted_logits
from trainer.evaluation.resampled_scores import headline_intervals
from trainer.evaluation.resampling import Resampling
from trainer.reporting import console
from trainer.reporting.figures import style
from trainer.runs import results
from trainer.runs.out_of_fold import FOLD, pool_runs
from trainer.runs.predicted_labels import read_predicted_labels
from trainer.tracking.run import NullTracker
from tuning.comparison.notes import find_notes
from tuning.comparison.report import figures, narrative, output
from tuning.comparison.report.content import build_report
from tuning.comparison.report.page import write_page
from tuning.comparison.results import ComparedRun

CAUSE = "The loss or its gradient is not finite <at step 3>."


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of a weak baseline and of a strong configuration."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        make_run(folder, name, seed, strength=strength)
        for name, strength in (("bce", 0.6), ("asl", 1.6))
        for seed in (1, 2)
    ]


def without_run(configuration, seed, state, cause):
    return ComparedRun(
        configuration=configuration,
        seed=seed,
        run_id="" if state == "missing" else "f" * 32,
        folder=None,
        state=state,
        cause=cause,
        reused=False,
        settings={},
        scores={},
        seconds=None,
    )


@pytest.fixture(scope="module")
def report(runs):
    """A comparison in which a third configuration failed."""
    lost = [without_run("focal", 1, "failed", CAUSE), without_run("focal", 2, "missing", "It was not started.")]
    plan = make_plan("bce", "asl", "focal", exploratory=())
    return build_report(plan, [*runs, *lost], notes=["Runs have different code."])


@pytest.fixture(scope="module")
def written(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    names = output.write_files(folder, report)
    return folder, names, json.loads((folder / "comparison.json").read_text()), (folder / "report.html").read_text()


def test_scores_are_those_of_the_runs(report, runs, written):
    found = [read_predicted_labels(run.folder, "test") for run in runs if run.configuration == "asl"]
    each = [metrics.macro_f1(one.scores, one.predictions) for one in found]
    row = report.score("asl", "own", "macro_f1")
    assert row.by_seed == pytest.approx(dict(zip((1, 2), each, strict=True)))
    assert row.value == pytest.approx(np.mean(each))
    (system,) = [one for one in report.comparison.systems if one.name == "asl"]
    assert (row.low, row.value, row.high) == pytest.approx((system.low, system.score, system.high))
    assert row.value == pytest.approx(np.mean([run.scores["test/macro_f1"] for run in runs[2:]]))
    ap = report.score("asl", "", "macro_ap")
    assert ap.value == pytest.approx(np.mean([run.scores["test/macro_ap"] for run in runs[2:]]))
    for policy in ("fixed", "global", "per_label"):
        expected = np.mean([run.scores[f"test/macro_f1/{policy}"] for run in runs[2:]])
        assert report.score("asl", policy, "macro_f1").value == pytest.approx(expected)
    assert {row["metric"] for row in written[2]["scores"]} >= {"weighted_recall", "micro_precision", "ece", "brier"}


def test_the_ranking_is_that_of_dev(report, runs):
    assert [one.configuration for one in report.ranking] == ["asl", "bce", "focal"]
    first, _, last = report.ranking
    assert first.by_seed == {run.seed: run.scores["dev/final/macro_f1"] for run in runs[2:]}
    assert (last.mean, last.missing) == (None, (1, 2))


def test_pairs_have_numbers_and_sentences(written):
    _, _, content, html = written
    (pair,) = content["pairs"]
    assert (pair["first"], pair["second"], pair["planned"], pair["verdict"]) == ("asl", "bce", True, "better")
    assert pair["low"] < pair["difference"] < pair["high"]
    assert len(pair["per_label"]) == len(LABELS)
    assert pair["sentence"].startswith("asl beats bce by ")
    for text in (pair["sentence"], "asl beats bce</td>", "Use asl", narrative.RULE[:40], "different code"):
        assert text in html
    assert "The planned comparison of bce and focal is missing" in html
    assert pair["p_corrected"] == pytest.approx(min(2 * pair["p_value"], 1.0))  # focal failed and counts
    assert "permutation p" not in html  # of two seeds it is about these trainings


def test_runs_without_a_result_are_listed_and_not_scored(written):
    _, _, content, html = written
    assert [row["state"] for row in content["runs"]] == ["finished"] * 4 + ["failed", "missing"]
    assert {row["configuration"] for row in content["scores"]} == {"asl", "bce"}
    assert "focal, seed 1: failed. The loss or its gradient is not finite &lt;at step 3&gt;." in html
    assert "2 of 6 runs have no score" in html
    assert not re.search(r"\bnan\b|>None<", html)


def test_files_tables_and_figures_are_written(written):
    folder, names, content, html = written
    assert set(names) == {"comparison.json", *output.TABLES, "report.html", "figures"}
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert figures == {
        *("pairs.png", "label_differences.png", "threshold_sweep.png"),
        *("score_over_time.png", "grad_norms.png"),
    }
    assert html.count("data:image/png;base64,") == len(figures)
    assert "default-src 'none'" in html
    table = json.loads((folder / "ranking.json").read_text())
    assert table["columns"] == ["configuration", "dev_mean", "dev_deviation", "seed_1", "seed_2"]
    at = [row["threshold"] for row in content["sweep"] if row["configuration"] == "bce" and row["calibrated"]]
    assert (min(at), max(at), len(at)) == (0.1, 0.9, 17)


def test_costs_are_absent_where_a_run_did_not_count_them(report, runs):
    assert [run.cost.seconds for run in report.runs] == [61.0, 62.0, 61.0, 62.0, None, None]
    assert report.runs[0].cost.gpu_joules is None
    curve = report.curves[runs[0].run_id]
    assert curve.seconds == (6.0, 18.0, 24.0, 36.0, 48.0)  # without the time between two processes
    assert len(curve.grad_norms) == 10
    older = build_report(make_plan("bce"), [replace(runs[0], scores={"dev/final/macro_f1": 0.5})]).runs[0].cost
    assert (older.samples, older.steps, older.seconds) == (None, 10, 48.0)  # what the event log tells
    assert older.max_grad_norm == 5.1


def test_a_single_seed_is_said(runs, tmp_path):
    report = build_report(make_plan("bce", "asl", seeds=(1,)), [runs[0], runs[2]])
    assert report.comparison.interval_sources == "examples"
    assert any("over examples only" in line for line in narrative.limits(report))
    assert narrative.recommendation(report).endswith("not about their settings.")
    page = write_page(tmp_path / "report.html", report, []).read_text()
    assert "permutation p" in page
    assert "McNemar" not in page


def test_one_configuration_with_one_seed_is_named_and_the_others_are_not(runs, tmp_path):
    again = [replace(run, configuration="twin") for run in runs[2:]]
    report = build_report(make_plan("bce", "asl", "twin"), [*runs[:3], *again])
    said = [line for line in narrative.limits(report) if "over examples only" in line]
    assert len(said) == 1
    assert said[0].startswith("One seed alone: asl.")
    assert report.comparison.interval_sources == "seeds and examples"
    page = write_page(tmp_path / "report.html", report, []).read_text()
    assert page.count("one seed: over examples alone") == sum(len(pair.seeds) == 1 for pair in report.pairs) == 2


def test_scores_without_threshold_have_the_intervals_of_the_runs(runs):
    report = build_report(make_plan("bce", "asl"), [runs[0], *runs[2:]])
    found = read_predicted_labels(runs[0].folder, "test")
    expected = headline_intervals(found.scores, found.predictions, Resampling(num_resamples=300))
    for metric in ("macro_ap", "ece", "brier"):
        alone = report.score("bce", "", metric)
        assert (alone.low, alone.high) == pytest.approx(expected[metric])
        both = report.score("asl", "", metric)
        assert 0.0 <= both.low < both.high <= 1.0
        assert both.value == pytest.approx(np.mean(list(both.by_seed.values())))


def test_titles_say_which_configurations_are_left_out(runs, tmp_path, monkeypatch):
    titles = []
    sheet = style.sheet
    monkeypatch.setattr(figures, "_MOST_LINES", 1)
    monkeypatch.setattr(
        figures.style, "sheet", lambda path, size, title: titles.append(title) or sheet(path, size, title)
    )
    again = [replace(run, configuration="twin") for run in runs[2:]]
    report = build_report(make_plan("bce", "asl", "twin"), [*runs, *again])
    for name in ("label_differences.png", "threshold_sweep.png", "score_over_time.png", "grad_norms.png"):
        figures.drawings(report)[name](tmp_path / name)
    assert [title.partition("\n")[2] for title in titles] == [
        "1 of 2 configurations, those that rank first on dev",
        *["1 of 3 configurations, the first of the plan"] * 3,
    ]


def test_runs_that_do_not_say_their_code_are_counted(runs, tmp_path):
    known = [replace(run, folder=tmp_path / run.run_id) for run in runs]
    for run, digest in zip(known, ("one", "one", "two", None), strict=True):
        run.folder.mkdir()
        (run.folder / artifacts.ENVIRONMENT).write_text(json.dumps({"code_digest": digest} if digest else {}))
        (run.folder / artifacts.DATASET).write_text("{}")
    assert [note.partition(":")[0] for note in find_notes(known)] == [
        "1 of 3 runs have another code",
        "1 of 4 runs do not say with which code they were trained",
    ]


def test_equal_configurations_are_not_told_apart(runs):
    again = [replace(run, configuration="twin") for run in runs[:2]]
    report = build_report(make_plan("bce", "twin"), [*runs[:2], *again])
    assert report.pairs[0].verdict == "equivalent"
    assert narrative.recommendation(report).startswith("Use bce")


def test_runs_on_other_examples_are_refused(runs, tmp_path):
    other = make_run(tmp_path, "asl", 3, examples=150)
    with pytest.raises(DataError, match="other examples"):
        build_report(make_plan("bce", "asl"), [*runs, other])


def test_a_run_with_damaged_files_is_missing(runs, tmp_path):
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "test.parquet").write_bytes(b"half")
    report = build_report(make_plan("bce", "asl"), [*runs[:3], replace(runs[3], folder=tmp_path)])
    (line,) = narrative.unscored(report)
    assert re.match(r"asl, seed 2: missing\. .*test\.parquet", line)
    assert report.comparison.pairs[0].seeds == (1,)


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """One seed of one configuration in two folds: together they predict 160 examples."""
    folder = tmp_path_factory.mktemp("folds")
    return [
        replace(
            make_run(folder / str(fold), "bce", 1, only=part), run_id=str(fold), settings={"folds": 2, "fold": fold}
        )
        for fold, part in ((1, slice(80)), (2, slice(80, 160)))
    ]


def test_folds_are_pooled(folds):
    report = build_report(make_plan("bce", seeds=(1,)), folds)
    assert (report.data["role"], report.data["examples"]) == ("out-of-fold", 160)
    assert {row.policy for row in report.scores} >= {"own", "fixed", "per_label"}
    dev = [run.scores["dev/final/macro_f1"] for run in folds]
    assert report.ranking[0].by_seed == {1: pytest.approx(np.mean(dev))}
    assert any("out of fold" in line for line in narrative.limits(report))
    pooled = pool_runs({int(run.settings["fold"]): run.folder for run in folds})
    numbers = np.array(pooled.columns[FOLD])
    unseen = calibration_scores(cross_fitted_logits(pooled, "temperature", fold_of_example=numbers))
    for name in ("ece", "brier"):
        assert report.score("bce", "", name).value == pytest.approx(unseen[name])


def test_the_run_of_a_cross_validation_has_them_pooled(folds, tmp_path):
    parts = {one.settings["fold"]: one.folder for one in folds}
    pooled = pool_runs(parts)
    results.write_predictions(tmp_path, artifacts.OUT_OF_FOLD, pooled)
    results.write_tables(tmp_path, choose_on(pooled), None)
    scores = {"out_of_fold/macro_f1": 0.625}
    run = replace(folds[0], folder=tmp_path, settings={"folds": 2, "fold": 0}, scores=scores)
    report = build_report(make_plan("bce", seeds=(1,)), [run])
    assert (report.data["role"], report.data["examples"]) == ("out-of-fold", 160)
    assert report.ranking[0].mean == 0.625


def test_a_model_without_one_of_its_folds_is_not_scored(folds):
    report = build_report(make_plan("bce", seeds=(1,)), folds[:1])
    assert report.comparison is None
    assert narrative.unscored(report) == ["bce, seed 1, fold 1: missing. Fold 2 has no result."]
    assert narrative.recommendation(report).startswith("No recommendation")


def test_results_are_logged_with_few_metrics(report, tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(output, "write_files", lambda folder, report: ["comparison.json"])

    class Recorder(NullTracker):
        def log_metrics(self, values, step):
            logged.append((dict(values), step))

    output.log(Recorder("r", tmp_path), report)
    ((values, step),) = logged
    assert step == 0
    assert set(values) == {
        *("comparison/unscored_runs", "comparison/trainer_seconds"),
        *("test/macro_f1/asl", "test/macro_f1/bce", "dev/macro_f1/asl", "dev/macro_f1/bce"),
    }


def test_the_summary_has_verdict_and_causes(report, tmp_path, capsys):
    output.show(console.make(), tmp_path, report)
    printed = capsys.readouterr()
    assert "asl beats bce" in printed.out
    assert "Use asl" in printed.out
    assert "focal, seed 1: failed" in printed.err
