"""The benchmarks are complete and compute the figures of their tables; no test asserts speed."""

import json
from math import inf
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tests.benchmarks import inference, run, thresholds, tuning
from tests.benchmarks.common import search_results
from tests.benchmarks.common.options import Options
from tests.benchmarks.common.tables import COLUMNS, Row, Table
from tests.benchmarks.implementations import training
from tests.benchmarks.implementations.__main__ import IMPLEMENTATIONS
from tests.tuning.tuning_helpers import Searches
from trainer.config import parse


def test_make_bench_runs_every_benchmark(root):
    folder = root / "tests" / "benchmarks"
    files = {path.stem for path in folder.glob("*.py")}
    of_service = {f"service/{path.stem}" for path in folder.glob("service/*.py")}

    assert (files | of_service) - {"run", "service/places"} == set(run.BENCHMARKS)
    assert len(run.BENCHMARKS) == 14


@pytest.mark.parametrize(("only", "model"), [(None, "starter"), ("thresholds", "starter"), ("tuning", "deberta-base")])
def test_a_model_that_the_part_does_not_have_is_refused(only, model, capsys):
    with pytest.raises(SystemExit):
        run.main([*(["--only", only] if only else []), "--model", model])

    assert "--model" in capsys.readouterr().err


def test_thresholds_of_few_examples_have_a_table_with_all_columns():
    (table,) = thresholds.measure(Options(repetitions=1), num_examples=60, num_labels=3)

    _, header, *rows = table.text().splitlines()
    assert tuple(header.split()) == COLUMNS
    assert len(rows) == len(table.rows) == 4
    assert table.rows[3].ours[0] >= 0  # exact thresholds are never worse on the examples that they are fitted on


def test_our_training_is_built_and_timed_from_its_settings(tmp_path, monkeypatch):
    """The benchmarks call the parts of a training by names that no type checker compares."""
    monkeypatch.setattr(training, "_matrix_gflops", lambda context: 1.0)
    config = parse(["--max_train_rows", "64", "--epochs", "1", "--output", str(tmp_path)])
    figures = training.train_ours(config, tracked=False)

    assert set(figures) == {
        *("examples_per_second", "peak_mib", "start_seconds", "loop_seconds", "cpu_seconds"),
        *("gflops", "matrix_gflops"),
    }
    assert 64 / figures["examples_per_second"] <= figures["loop_seconds"]


def test_every_measured_implementation_exists():
    names = {*inference._OURS, "stock", "ours", "ours_tracked", "stock_grouped", "stock_padded"}

    assert names | set(run.BENCHMARKS["serving"]._IMPLEMENTATIONS) == set(IMPLEMENTATIONS)


def test_a_search_runs_once_and_is_read_from_its_folder(tmp_path, root, tracking_uri, monkeypatch):
    searches = Searches(tmp_path, root)
    searches.behave(epoch_seconds=0.1)
    statuses = []

    def run_here(arguments, folder):
        assert (arguments[:2], folder) == (["-m", "tuning.tune"], str(tmp_path))
        settings = {name[2:]: value for name, value in zip(arguments[2::2], arguments[3::2], strict=True)}
        statuses.append(searches.run(**settings)[0])

    monkeypatch.setattr(search_results, "run_python", run_here)
    for _ in range(2):
        results = search_results.search(tmp_path, 2, workers=2, pruner="none")

    assert statuses == [0]
    assert len(results.finished) == 2
    assert results.curve()[-1] == (pytest.approx(results.training_seconds), results.best)
    assert results.trials_per_hour > 0
    assert [times["number"] for times in results.trial_times()] == [0, 1]
    for times in results.trial_times():
        parts = [times[name] for name in ("suggesting", "starting", "ending", "closing")]
        assert sum(parts) == pytest.approx(times["outside"])
        assert 0 < times["outside"] < times["all"] - 0.1  # epochs of 0.1 s; the first event follows the first epoch


def study_of(trials):
    """Results of a search whose trials ended in this order: pairs of score, None for a pruned one, and seconds."""
    study = optuna.create_study(direction="maximize")
    for value, seconds in trials:
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        study.add_trial(optuna.trial.create_trial(state=state, value=value, user_attrs={"seconds": seconds}))
    return search_results.SearchResults(Path(), study)


def test_a_pruned_trial_costs_seconds_and_has_no_score():
    results = study_of([(0.4, 10), (None, 5), (0.3, 10), (0.6, 10)])

    assert results.curve() == [(10, 0.4), (25, 0.4), (35, 0.6)]
    assert [results.seconds_to(score) for score in (0.4, 0.41, 0.61)] == [10, 35, inf]
    assert (results.best, results.training_seconds, results.num_pruned) == (0.6, 35, 1)


def test_a_trial_that_failed_before_its_training_costs_nothing():
    results = study_of([(0.4, 10)])
    results.study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL, user_attrs={"cause": "no server"}))

    assert results.training_seconds == 10


def test_an_interrupted_search_has_no_rate():
    results = study_of([(0.4, 10), (0.5, 10)])
    assert results.trials_per_hour > 0
    results.study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))

    assert results.num_interrupted == 1
    assert results.trials_per_hour is None


def test_searches_are_compared_seed_by_seed(monkeypatch, tmp_path):
    results = {
        "hyperband": [study_of([(0.5, 10), (None, 5)]), study_of([(0.5, 10)]), study_of([(0.4, 10)])],
        "none": [study_of([(0.5, 20), (0.4, 20)]), study_of([(0.4, 40), (0.45, 10)]), study_of([(0.6, 40)])],
    }
    times = {"all": 10.0, "outside": 2.0, "suggesting": 0.5, "starting": 0.5, "ending": 0.5, "closing": 0.5}
    trial_times = [{"number": number, **times} for number in range(2)]
    monkeypatch.setattr(search_results.SearchResults, "trial_times", lambda _: trial_times)
    monkeypatch.setattr(tuning, "search", lambda *_, seed, pruner, **__: results[pruner][seed - 1])
    options = Options(model="starter", workers=1, folder=str(tmp_path))
    efficiency, overhead, workers = tuning.measure(options)

    rows = {row.measure: row for row in efficiency.rows}
    fraction = rows["as a fraction of all training seconds of unpruned"]
    assert fraction.ours == [0.25, 0.2, inf]
    assert fraction.cells()[-2:] == ("0.2 to not reached", "below 0.333: met")
    assert rows["the fraction that unpruned needs itself"].ours == [0.5, 1, 1]
    assert rows["trials pruned"].ours == [1, 0, 0]
    assert [row.ours for row in overhead.rows][-2:] == [[2.0] * 3, [20.0] * 3]
    assert workers.rows == ()
    assert workers.note.startswith("not measured")


def test_a_value_that_is_not_reached_is_null_in_json():
    row = Row(measure="s", ours=[2.0, inf, inf], below=9)

    assert row.cells() == ("s", "-", "not reached", "-", "2 to not reached", "below 9: missed")
    assert json.loads(json.dumps(Table(title="t", rows=(row,)).as_json()))["rows"][0]["ours"] == [2.0, None, None]


def test_ratio_is_above_one_where_ours_is_better():
    slower = Row(measure="s", ours=[4.0, 4.0], reference=[2.0, 1.0], at_least=1)
    faster = Row(measure="examples/s", ours=[6.0], reference=[2.0], more_is_better=True, at_least=3)

    assert slower.cells() == ("s", "1.5", "4", "0.375", "0.25 to 0.5", "at least 1: missed")
    assert faster.cells()[3:] == ("3", "3 to 3", "at least 3: met")


def test_a_skipped_benchmark_has_its_reason():
    assert Table(title="training", note="skipped: no model").text() == "training\n  skipped: no model"
