"""The benchmarks are complete and print what they promise; speed itself is never asserted."""

import json
from math import inf
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tests.benchmarks import run, searched, searching, thresholds
from tests.benchmarks.measure import COLUMNS, Row, Table
from tests.tuning.tuning_parts import Searches

_NOT_BENCHMARKS = {"run", "measure", "contenders", "materials", "searched", "served"}


def test_every_benchmark_is_run_by_make_bench(root):
    files = {path.stem for path in (root / "tests" / "benchmarks").glob("*.py")} - _NOT_BENCHMARKS

    assert files == set(run.BENCHMARKS)
    assert len(files) == 9


def test_thresholds_on_few_rows_have_a_table_with_the_named_columns():
    (table,) = thresholds.measure(1, num_rows=60, num_labels=3)

    _, header, *rows = table.text().splitlines()
    assert tuple(header.split()) == COLUMNS
    assert len(rows) == len(table.rows) == 4
    assert table.rows[3].ours[0] >= 0  # exact cuts are never worse on the rows they are fitted on


def test_a_search_is_run_once_and_read_from_its_folder(tmp_path, root, tracking_uri, monkeypatch):
    searches = Searches(tmp_path, root)
    searches.behave(epoch_seconds=0.2)
    codes = []

    def run_here(words, folder):  # with stand-ins for trainings
        assert (words[:2], folder) == (["-m", "tuning.tune"], str(tmp_path))
        given = {name[2:]: value for name, value in zip(words[2::2], words[3::2], strict=True)}
        codes.append(searches.run(**given)[0])

    monkeypatch.setattr(searched, "run_python", run_here)
    for _ in range(2):
        found = searched.search(tmp_path, 3, workers=2, pruner="none")

    assert codes == [0]
    assert len(found.ended) == 3
    assert found.curve()[-1] == (pytest.approx(found.trainer_seconds), found.best)
    assert found.trials_per_hour > 0
    for cost in found.costs():
        parts = [cost[name] for name in ("suggesting", "starting", "ending", "closing")]
        assert sum(parts) == pytest.approx(cost["beside"])
        assert 0 < cost["beside"] < cost["whole"] - 0.2  # epochs of 0.2 s, of which the first is recorded at its end


def study_of(trials):
    """A search whose trials ended in this order: pairs of score, None for one that was pruned, and seconds."""
    study = optuna.create_study(direction="maximize")
    for value, seconds in trials:
        attributes = {"seconds": seconds, "driver": {"pid": 1}}
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        study.add_trial(optuna.trial.create_trial(state=state, value=value, user_attrs=attributes))
    return searched.Searched(Path(), study)


def test_a_pruned_trial_costs_and_scores_nothing():
    found = study_of([(0.4, 10), (None, 5), (0.3, 10), (0.6, 10)])

    assert found.curve() == [(10, 0.4), (25, 0.4), (35, 0.6)]
    assert [found.seconds_to(score) for score in (0.4, 0.41, 0.61)] == [10, 35, inf]
    assert (found.best, found.trainer_seconds, found.pruned) == (0.6, 35, 1)


def test_a_search_that_was_interrupted_has_no_rate():
    found = study_of([(0.4, 10), (0.5, 10)])
    assert found.trials_per_hour > 0
    found.study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))

    assert found.cut_off == 1
    assert found.trials_per_hour is None


def test_searches_are_compared_seed_by_seed(monkeypatch, tmp_path):
    asked = {
        "hyperband": [study_of([(0.5, 10), (None, 5)]), study_of([(0.5, 10)]), study_of([(0.4, 10)])],
        "none": [study_of([(0.5, 20), (0.4, 20)]), study_of([(0.4, 40), (0.45, 10)]), study_of([(0.6, 40)])],
    }
    cost = {"whole": 10.0, "beside": 2.0, "suggesting": 0.5, "starting": 0.5, "ending": 0.5, "closing": 0.5}
    monkeypatch.setattr(searched.Searched, "costs", lambda _: [{"number": number, **cost} for number in range(2)])
    monkeypatch.setattr(searching, "search", lambda *_, seed, pruner, **__: asked[pruner][seed - 1])
    efficiency, driver, workers = searching.measure(0, material="starter", workers=1, folder=tmp_path)

    rows = {row.measure: row for row in efficiency.rows}
    assert rows["share of all trainer-seconds of unpruned"].ours == [0.25, 0.2, inf]
    assert rows["share of all trainer-seconds of unpruned"].cells()[-2:] == (
        "0.2 to not reached",
        "below 0.333: aim met",
    )
    assert rows["share that unpruned needed of its own"].ours == [0.5, 1, 1]
    assert rows["trials pruned"].ours == [1, 0, 0]
    assert [row.ours for row in driver.rows][-2:] == [[2.0] * 3, [20.0] * 3]
    assert workers.rows == ()
    assert workers.note.startswith("not measured")


def test_what_is_not_reached_is_no_number():
    row = Row(measure="s", ours=[2.0, inf, inf], below=9)

    assert row.cells() == ("s", "-", "not reached", "-", "2 to not reached", "below 9: aim missed")
    assert json.loads(json.dumps(Table(title="t", rows=(row,)).facts()))["rows"][0]["ours"] == [2.0, None, None]


def test_ratio_says_how_many_times_better_ours_is():
    slower = Row(measure="s", ours=[4.0, 4.0], reference=[2.0, 1.0], at_least=1)
    faster = Row(measure="samples/s", ours=[6.0], reference=[2.0], more_is_better=True, at_least=3)

    assert slower.cells() == ("s", "1.5", "4", "0.375", "0.25 to 0.5", "at least 1: aim missed")
    assert faster.cells()[3:] == ("3", "3 to 3", "at least 3: aim met")


def test_a_skipped_benchmark_says_why():
    assert Table(title="training", note="skipped: no model").text() == "training\n  skipped: no model"
