"""The table of trials has one row per trial, in the format of MLflow's tables."""

import json

import pandas as pd
from optuna.trial import TrialState
from study_helpers import make_search, make_study, make_trial

from tuning.reporting.trials_table import write_trials


def read(path):
    content = json.loads(path.read_text("utf-8"))
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def test_rows_hold_what_the_trials_left(tmp_path):
    study = make_study(
        make_trial(
            0.5, {"learning_rate": 1e-4, "loss": "asl"}, reports=[0.3, 0.4], seconds=9.5, runs={"42": "a", "43": "b"}
        ),
        make_trial(0.3, state=TrialState.PRUNED, reports=[0.3]),
        make_trial(state=TrialState.FAIL, cause="größer als 0 <b>"),
        make_trial(state=TrialState.FAIL, surplus=True),
    )
    first, pruned, failed, again = read(write_trials(tmp_path / "new", study))

    assert first == {
        "number": 0,
        "state": "complete",
        "value": 0.5,
        "seconds": 9.5,
        "steps": 2,
        "last_report": 0.4,
        "run_id": "a",
        "cause": None,
        "params.learning_rate": 1e-4,
        "params.loss": "asl",
    }
    assert (pruned["state"], pruned["value"], pruned["last_report"]) == ("pruned", None, 0.3)
    assert (failed["state"], failed["cause"], failed["params.loss"]) == ("failed", "größer als 0 <b>", None)
    assert again["state"] == "requeued"


def test_two_objectives_have_a_column_each_and_infinity_is_null(tmp_path):
    study = make_study(make_trial((float("inf"), 2.0)), directions=("maximize", "minimize"))
    (row,) = read(write_trials(tmp_path, study))

    assert (row["value_0"], row["value_1"]) == (None, 2.0)


def test_a_study_without_trials_is_an_empty_table(tmp_path):
    assert read(write_trials(tmp_path, make_study())) == []


def test_columns_of_scores_are_numbers_for_pandas(tmp_path):
    table = pd.read_json(write_trials(tmp_path, make_search(12)), orient="split")  # as `mlflow.load_table` reads it

    assert len(table) == 12
    assert pd.api.types.is_float_dtype(table["value"])
