"""The trials of a study as a table that MLflow shows and `mlflow.load_table` reads."""

import math
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from trainer.core.text_files import write_table
from tuning.study import trials

__all__ = ["TRIALS", "write_trials"]

TRIALS = "trials.json"


def write_trials(folder: Path, study: optuna.Study) -> Path:
    """Write `trials.json` in the format of `mlflow.log_table`, one row per trial by number, and return its path.

    Columns: number, state (`requeued` for one that does not count), value or one `value_i` per objective (complete
    trials only), seconds, steps (number of reports), last_report (its value), run_id, cause (of a failure), then the
    parameters as `params.NAME`. A missing value and one that is not finite are null.
    """
    rows = [_row(trial, len(study.directions)) for trial in study.get_trials(deepcopy=False)]
    return write_table(folder / TRIALS, rows)


def _row(trial: FrozenTrial, objectives: int) -> dict[str, Any]:
    # Optuna gives a pruned trial the value it reported last, which is no result.
    values = trial.values if trial.state == TrialState.COMPLETE else [math.nan] * objectives
    reports = trial.intermediate_values
    names = ["value"] if objectives == 1 else [f"value_{place}" for place in range(objectives)]
    return {
        "number": trial.number,
        "state": trials.state(trial),
        **dict(zip(names, map(_finite, values), strict=True)),
        "seconds": trials.seconds(trial),
        "steps": len(reports),
        "last_report": _finite(reports[max(reports)]) if reports else None,
        "run_id": trials.run_id(trial),
        "cause": trials.cause(trial),
        **{f"params.{name}": value for name, value in trial.params.items()},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
