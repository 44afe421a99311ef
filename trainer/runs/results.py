"""The files of an evaluation in a run folder, written and read."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from trainer.core import artifacts
from trainer.core.errors import DataError
from trainer.core.groups import group_numbers
from trainer.core.input_files import read_json
from trainer.core.text_files import write_json, write_table
from trainer.evaluation import thresholds
from trainer.evaluation.arrays import Array, BoolArray, IntArray, LabelledScores
from trainer.evaluation.calibration import IDENTITY, Calibration, calibrate
from trainer.evaluation.calibration_fit import CalibrationChoice
from trainer.evaluation.cross_validation import PolicyChoice
from trainer.evaluation.evaluation import Evaluation
from trainer.reporting import figures
from trainer.reporting.optional import attempt

__all__ = [
    "TABLE_DIGITS",
    "Predictions",
    "load_choices",
    "read_predictions",
    "table_names",
    "write_evaluation_figures",
    "write_figures",
    "write_label_table",
    "write_predictions",
    "write_tables",
]

TABLE_DIGITS = 4
"""Significant digits of the numbers in tables, which are for reading; thresholds.json has all of them."""
_FIRST_COLUMNS = ("label", "f1", "support", "precision", "recall")  # MLflow's page shows five columns of per_label.json
_TABLES = (
    *(artifacts.SCORES, artifacts.PER_LABEL, artifacts.SLICES, artifacts.ERRORS, artifacts.MISSED_LABELS),
    *(artifacts.LABEL_ERRORS, artifacts.LABEL_ERROR_COUNTS, artifacts.THRESHOLD_SWEEP),
)

_ARRAYS: dict[str, Any] = {"labels": np.float32, "observed": np.bool_, "logits": np.float32}
"""Columns with k values per row."""
_KEPT = "column."
"""Before the name of a kept column of the data: its name may be that of another column of the file."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions(LabelledScores):
    """Logits of a split with ids and texts of its n examples: the content of a predictions file."""

    kind: Literal["probabilities", "logits"] = "logits"
    example_ids: tuple[str, ...]
    """n distinct ids."""
    texts: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of a kept column of the data → its n cells; none in files of older versions."""
    group_column: str = ""
    """The one of `columns` whose equal cells group examples; empty where none does."""

    @property
    def groups(self) -> IntArray | None:
        """The number of each example's group, (n,); None without a group column."""
        return group_numbers(self.columns[self.group_column]) if self.group_column else None

    def take(self, examples: Array) -> Self:
        """Return the given examples, by index or as a mask (n,), without validating them again."""
        chosen = np.arange(self.num_examples)[examples].tolist()
        return (
            super()
            .take(examples)
            ._set(
                example_ids=tuple(self.example_ids[i] for i in chosen),
                texts=tuple(self.texts[i] for i in chosen),
                columns={name: tuple(cells[i] for i in chosen) for name, cells in self.columns.items()},
            )
        )


def write_tables(folder: Path, evaluation: Evaluation, dev: LabelledScores | None) -> None:
    """Write labels, thresholds, calibration, the table per label and the sweep over thresholds as JSON.

    dev is None where the model was trained on it; then there is no sweep.
    """
    write_json(folder / artifacts.LABELS, list(evaluation.label_names))
    write_json(folder / artifacts.THRESHOLDS, _thresholds(evaluation))
    write_json(
        folder / artifacts.CALIBRATION,
        {
            "method": evaluation.calibration_choice.method,
            **asdict(evaluation.calibration),
            "crossfitted_nll": evaluation.calibration_choice.scores,
            "reason": evaluation.calibration_choice.reason,
            **_fitted_on(evaluation),
            **evaluation.calibration_errors,
        },
    )
    write_label_table(folder, evaluation)
    if dev is not None:
        sweep = thresholds.threshold_sweep(calibrate(dev, evaluation.calibration))
        write_table(folder / artifacts.THRESHOLD_SWEEP, sweep, digits=TABLE_DIGITS)


def write_label_table(folder: Path, evaluation: Evaluation) -> None:
    """Write the scores of each label on every split of the evaluation."""
    names = {"test": evaluation.split}
    rows = [
        {"role": names.get(role, role), **{name: row[name] for name in _FIRST_COLUMNS if name in row}, **row}
        for role in ("test", artifacts.OUT_OF_FOLD, "dev")
        for row in evaluation.per_label.get(role, [])
    ]
    write_table(folder / artifacts.PER_LABEL, rows, digits=TABLE_DIGITS)


def table_names(folder: Path) -> list[str]:
    """Return the names of the tables of a run, which are in the format of `mlflow.log_table`."""
    return [name for name in _TABLES if (folder / name).is_file()]


def load_choices(folder: Path) -> Evaluation:
    """Return the calibration and thresholds that `write_tables` wrote, as an evaluation without scores.

    Raises OSError, KeyError, TypeError or ValueError for a file that is missing or damaged.
    """
    names, chosen, calibrated = (
        read_json(folder / name) for name in (artifacts.LABELS, artifacts.THRESHOLDS, artifacts.CALIBRATION)
    )
    policy = chosen["default_policy"]
    return Evaluation(
        label_names=tuple(names),
        calibration_choice=CalibrationChoice(
            method=calibrated["method"],
            calibration=Calibration.of(calibrated),
            scores=calibrated.get("crossfitted_nll", {}),  # older versions compared no methods
            reason=calibrated.get("reason", ""),
        ),
        thresholds={  # those that were written: an older version knew fewer policies
            name: np.array([by_label[label] for label in names]) for name, by_label in chosen["policies"].items()
        },
        policy=policy,
        choice=PolicyChoice(
            policy,
            chosen["shrinkage_strength"],
            chosen["crossfitted_macro_f1"],
            chosen["optimism"],
            chosen.get("standard_errors", {}),
        ),
        calibration_errors={},
        dev={},
        per_label={},
        fitted_on=chosen.get("fitted_on", "dev"),
        origin=folder.name,
    )


def write_predictions(folder: Path, role: str, split: Predictions) -> None:
    """Write a split as Parquet: row_id, text, and one list of k values per row for labels, observed and logits.

    A kept column of the data is a column of text, `column.` and its name. The label names are in the metadata, as JSON.
    """
    import pyarrow
    import pyarrow.parquet

    path = folder / artifacts.predictions_file(role)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, Any] = {"row_id": list(split.example_ids), "text": list(split.texts)}  # the name in older files
    columns |= {f"{_KEPT}{name}": list(cells) for name, cells in split.columns.items()}
    columns |= {name: list(np.asarray(getattr(split, name), kind)) for name, kind in _ARRAYS.items()}
    facts = {"label_names": json.dumps(split.label_names), "role": role, "group_column": split.group_column}
    table = pyarrow.table(columns, metadata=facts)
    pyarrow.parquet.write_table(table, path)


def read_predictions(path: Path) -> Predictions:
    """Return what `write_predictions` wrote. Raises DataError when the file is missing, damaged or another kind."""
    import pyarrow
    import pyarrow.parquet

    try:
        kept = [name for name in pyarrow.parquet.read_schema(path).names if name.startswith(_KEPT)]
        table = pyarrow.parquet.read_table(path, columns=["row_id", "text", *_ARRAYS, *kept])
        label_names = tuple(map(str, json.loads(table.schema.metadata[b"label_names"])))
        shape = (len(table), len(label_names))
        arrays = {name: np.asarray(table[name].to_pylist(), kind).reshape(shape) for name, kind in _ARRAYS.items()}
        example_ids, texts = _ids_and_texts(table)
        return Predictions(
            label_names=label_names,
            scores=arrays["logits"],
            labels=arrays["labels"],
            observed=arrays["observed"],
            example_ids=example_ids,
            texts=texts,
            columns={name.removeprefix(_KEPT): tuple(map(str, table[name].to_pylist())) for name in kept},
            group_column=table.schema.metadata.get(b"group_column", b"").decode(),
        )
    # TypeError: Parquet of another program may have no metadata. DataError: of `Predictions`, about its arrays.
    except (pyarrow.ArrowException, DataError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"Cannot read the predictions in {path} ({error}). Download the file again, or train again."
        ) from error


def _ids_and_texts(table: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    example_ids, texts = (tuple(table[name].to_pylist()) for name in ("row_id", "text"))
    if not all(isinstance(value, str) for value in (*example_ids, *texts)):
        raise ValueError("a row without id or text")
    if len(set(example_ids)) != len(example_ids):
        raise ValueError("the same row id twice")
    return example_ids, texts


def write_figures(
    folder: Path,
    evaluation: Evaluation,
    splits: Mapping[str, LabelledScores],
    history: Sequence[Mapping[str, float]],
    train_positives: tuple[Any, int],
) -> list[Path]:
    """Write the figures of a run and return their paths. A figure that fails costs a warning and is left out.

    train_positives: positives per label (k,), number of training examples.
    """
    names = evaluation.label_names
    before, test = (calibrate(splits["test"], used) for used in (IDENTITY, evaluation.calibration))
    predictions = thresholds.predict(test.probabilities, evaluation.thresholds[evaluation.policy])
    positives = {"train": train_positives[0]} | {role: split.support for role, split in splits.items()}
    counts = {"train": train_positives[1]} | {role: split.num_examples for role, split in splits.items()}
    drawings = {
        "curves.png": lambda path: figures.loss_and_f1_curves(path, history),
        "thresholds.png": lambda path: figures.thresholds_per_label(path, names, evaluation.thresholds),
        "label_frequency.png": lambda path: figures.label_frequency(path, names, positives, counts),
    }
    return _draw(folder, drawings | _drawings_of_scores(evaluation, test, predictions, before))


def write_evaluation_figures(
    folder: Path, evaluation: Evaluation, scores: LabelledScores, predictions: BoolArray
) -> list[Path]:
    """Write the figures of an evaluation without its training, as `write_figures`.

    scores: calibrated probabilities. predictions: (n, k), under the default policy.
    """
    positives, counts = {evaluation.split: scores.support}, {evaluation.split: scores.num_examples}
    names = evaluation.label_names
    drawings = {"label_frequency.png": lambda path: figures.label_frequency(path, names, positives, counts)}
    return _draw(folder, drawings | _drawings_of_scores(evaluation, scores, predictions, None))


def _drawings_of_scores(
    evaluation: Evaluation, scores: LabelledScores, predictions: BoolArray, before: LabelledScores | None
) -> dict[str, Callable[[Path], Path]]:
    """Return file → drawing of the measured split. before: its probabilities before calibration, where known."""
    names, rows, split = evaluation.label_names, evaluation.per_label["test"], evaluation.split
    f1, low, high = (np.array([row[name] for row in rows], dtype=float) for name in ("f1", "f1_low", "f1_high"))
    intervals = np.stack([low, high], axis=1)
    errors = evaluation.calibration_errors["test"]
    ece = (errors["before"].get("ece"), errors["after"]["ece"])
    return {
        "per_label_f1.png": lambda path: figures.per_label_f1(path, names, f1, intervals, scores.support, split=split),
        "precision_recall.png": lambda path: figures.precision_recall(path, scores, predictions, split=split),
        "reliability.png": lambda path: figures.reliability(path, before, scores, ece, split=split),
        "label_calibration.png": lambda path: figures.label_calibration(path, rows, split=split),
        "error_cooccurrence.png": lambda path: figures.error_cooccurrence(path, scores, predictions, split=split),
    }


def _draw(folder: Path, drawings: Mapping[str, Callable[[Path], Path]]) -> list[Path]:
    target = folder / artifacts.FIGURES
    target.mkdir(parents=True, exist_ok=True)
    drawn = [attempt(f"the figure {name}", partial(draw, target / name)) for name, draw in drawings.items()]
    for name, path in zip(drawings, drawn, strict=True):
        if path is None:  # a part of it, or one of an earlier process
            (target / name).unlink(missing_ok=True)
    return [path for path in drawn if path is not None]


def _thresholds(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "default_policy": evaluation.policy,
        **_fitted_on(evaluation),
        "policies": {
            policy: dict(zip(evaluation.label_names, np.asarray(values).tolist(), strict=True))
            for policy, values in evaluation.thresholds.items()
        },
        "shrinkage_strength": evaluation.choice.strength,
        "crossfitted_macro_f1": evaluation.choice.scores,
        "optimism": evaluation.choice.optimism,
        "standard_errors": evaluation.choice.errors,
    }


def _fitted_on(evaluation: Evaluation) -> dict[str, str]:
    return {"fitted_on": evaluation.fitted_on} | ({"of_run": evaluation.origin} if evaluation.origin else {})
