"""The files an outcome leaves in a run folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.core import artifacts
from trainer.core.errors import DataError
from trainer.core.run_folder import write_json
from trainer.evaluation import calibration, thresholds
from trainer.evaluation.cross_validation import PolicyChoice
from trainer.evaluation.evaluation import Evaluated, Evaluation
from trainer.reporting import figures
from trainer.reporting.figures import Scored
from trainer.tracking.tables import as_table

__all__ = [
    "Predictions",
    "logged_tables",
    "read_choices",
    "read_predictions",
    "write_figures",
    "write_predictions",
    "write_tables",
]

_LOGGED_TABLES = (artifacts.PER_LABEL, artifacts.THRESHOLD_SWEEP)

_ARRAYS: dict[str, Any] = {"labels": np.float32, "observed": np.bool_, "logits": np.float32}


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions(Evaluated):
    """A scored split with its texts (n,) and the names of its k labels: what a predictions file holds."""

    texts: tuple[str, ...]
    label_names: tuple[str, ...]


def write_tables(folder: Path, outcome: Evaluation, dev: Evaluated | None) -> None:
    """Write labels, thresholds, calibration, the table per label and the sweep over thresholds as JSON.

    Without dev, where it was trained on, there is no sweep.
    """
    write_json(folder / artifacts.LABELS, list(outcome.label_names))
    write_json(folder / artifacts.THRESHOLDS, _thresholds(outcome))
    write_json(
        folder / artifacts.CALIBRATION,
        {"method": "temperature", "temperature": outcome.temperature, **_fitted_on(outcome), **outcome.calibration},
    )
    rows = [{"role": role, **row} for role in ("test", "dev") for row in outcome.per_label.get(role, [])]
    write_json(folder / artifacts.PER_LABEL, as_table(rows))
    if dev is not None:
        probabilities = calibration.apply_temperature(dev.logits, outcome.temperature)
        sweep = thresholds.threshold_sweep(outcome.label_names, probabilities, dev.labels, dev.observed)
        write_json(folder / artifacts.THRESHOLD_SWEEP, as_table(sweep))


def logged_tables(folder: Path) -> list[Path]:
    """Files in the form of `mlflow.log_table`: `mlflow.load_table` reads them and the UI shows them as tables."""
    return [folder / name for name in _LOGGED_TABLES if (folder / name).is_file()]


def read_choices(folder: Path) -> Evaluation:
    """The temperature and thresholds that `write_tables` wrote, as an outcome without scores that names its origin.

    Raises OSError, KeyError, TypeError or ValueError for a file that is missing or damaged.
    """
    names, cuts, stages = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in (artifacts.LABELS, artifacts.THRESHOLDS, artifacts.CALIBRATION)
    )
    policy = cuts["default_policy"]
    return Evaluation(
        label_names=tuple(names),
        temperature=stages["temperature"],
        thresholds={name: np.array([cuts["policies"][name][label] for label in names]) for name in thresholds.POLICIES},
        policy=policy,
        choice=PolicyChoice(policy, cuts["shrinkage_strength"], cuts["crossfitted_macro_f1"], cuts["optimism"]),
        calibration={},
        dev={},
        per_label={},
        origin=folder.name,
    )


def write_predictions(folder: Path, role: str, split: Predictions) -> None:
    """Write a split as Parquet: row_id, text, and one list of k values per row for labels, observed and logits.

    The label names stand in the metadata, as JSON.
    """
    import pyarrow
    import pyarrow.parquet

    path = folder / artifacts.predictions_file(role)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, Any] = {"row_id": list(split.row_ids), "text": list(split.texts)}
    columns |= {name: list(np.asarray(getattr(split, name), kind)) for name, kind in _ARRAYS.items()}
    table = pyarrow.table(columns, metadata={"label_names": json.dumps(split.label_names), "role": role})
    pyarrow.parquet.write_table(table, path)


def read_predictions(path: Path) -> Predictions:
    """Return what `write_predictions` wrote. Raises DataError when the file is missing, damaged or another kind."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, columns=["row_id", "text", *_ARRAYS])
        label_names = tuple(map(str, json.loads(table.schema.metadata[b"label_names"])))
        shape = (len(table), len(label_names))
        arrays: dict[str, Any] = {
            name: np.asarray(table[name].to_pylist(), kind).reshape(shape) for name, kind in _ARRAYS.items()
        }
        found = Predictions(
            row_ids=tuple(table["row_id"].to_pylist()),
            texts=tuple(table["text"].to_pylist()),
            label_names=label_names,
            **arrays,
        )
        _check_predictions(found)
    except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"predictions must be a file that a training of this version wrote, but got {str(path)!r} ({error}). "
            "Fetch it again, or train again."
        ) from error
    return found


def _check_predictions(found: Predictions) -> None:
    if not all(isinstance(cell, str) for cells in (found.row_ids, found.texts) for cell in cells):
        raise ValueError("a row without id or text")
    if len(set(found.row_ids)) != len(found.row_ids):
        raise ValueError("row ids that stand in it twice")
    if not np.isfinite(found.logits).all():
        raise ValueError("logits that are not finite")
    if not ((found.labels >= 0) & (found.labels <= 1)).all():
        raise ValueError("labels outside [0, 1]")


def write_figures(
    folder: Path,
    outcome: Evaluation,
    splits: Mapping[str, Evaluated],
    history: Sequence[Mapping[str, float]],
    train_positives: tuple[Any, int],
) -> list[Path]:
    """Write the figures of a run and return their paths. train_positives: positives per label (k,), rows of train."""
    target = folder / artifacts.FIGURES
    target.mkdir(parents=True, exist_ok=True)
    names, cuts = outcome.label_names, outcome.thresholds[outcome.policy]
    test = _scored(outcome, splits["test"], outcome.temperature)
    rows = outcome.per_label["test"]
    intervals = np.array([[row["f1_low"], row["f1_high"]] for row in rows], dtype=float)
    positives = {"train": train_positives[0]} | {
        role: ((split.labels >= 0.5) & split.observed).sum(axis=0) for role, split in splits.items()
    }
    counts = {"train": train_positives[1]} | {role: len(split.row_ids) for role, split in splits.items()}
    stages = outcome.calibration["test"]
    ece = (stages["before"]["ece"], stages["after"]["ece"])
    f1 = np.array([row["f1"] for row in rows], dtype=float)
    support = np.array([row["support"] for row in rows])
    return [
        figures.loss_and_f1_curves(target / "curves.png", history),
        figures.per_label_f1(target / "per_label_f1.png", names, f1, intervals, support),
        figures.precision_recall(target / "precision_recall.png", test, cuts),
        figures.thresholds_per_label(target / "thresholds.png", names, outcome.thresholds),
        figures.reliability(target / "reliability.png", _scored(outcome, splits["test"], 1.0), test.probabilities, ece),
        figures.error_cooccurrence(target / "error_cooccurrence.png", test, cuts),
        figures.label_frequency(target / "label_frequency.png", names, positives, counts),
    ]


def _scored(outcome: Evaluation, split: Evaluated, temperature: float) -> Scored:
    probabilities = calibration.apply_temperature(split.logits, temperature)
    return Scored(
        label_names=outcome.label_names, labels=split.labels, probabilities=probabilities, observed=split.observed
    )


def _thresholds(outcome: Evaluation) -> dict[str, Any]:
    return {
        "default_policy": outcome.policy,
        **_fitted_on(outcome),
        "policies": {
            policy: dict(zip(outcome.label_names, np.asarray(values).tolist(), strict=True))
            for policy, values in outcome.thresholds.items()
        },
        "shrinkage_strength": outcome.choice.strength,
        "crossfitted_macro_f1": outcome.choice.scores,
        "optimism": outcome.choice.optimism,
    }


def _fitted_on(outcome: Evaluation) -> dict[str, str]:
    return {"fitted_on": "dev"} | ({"of_run": outcome.origin} if outcome.origin else {})
