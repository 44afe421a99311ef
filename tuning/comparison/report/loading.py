"""The predictions of the runs of a comparison, on the same examples in the same order.

That is test, or with folds the examples of train and dev, each predicted by the run that held it out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.core import artifacts
from trainer.core.errors import DataError
from trainer.evaluation import thresholds
from trainer.evaluation.arrays import Array, BoolArray, IntArray, LabelledScores
from trainer.evaluation.calibration import calibrate
from trainer.evaluation.cross_validation import cross_fitted_predictions
from trainer.evaluation.evaluation import Evaluation
from trainer.runs.results import Predictions, load_choices, read_predictions
from tuning.comparison.results import ComparedRun

__all__ = ["OUT_OF_FOLD", "OWN", "TEST", "Examples", "ScoredRun", "load_runs"]

OWN = "own"
"""In place of a threshold policy: the one that each run chose on dev."""
TEST, OUT_OF_FOLD = "test", "out-of-fold"


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredRun:
    """The predictions of one configuration and seed."""

    configuration: str
    seed: int
    runs: tuple[ComparedRun, ...]
    """One, or with folds one for each fold."""
    raw: LabelledScores
    """Probabilities without calibration."""
    scores: LabelledScores
    """Calibrated probabilities."""
    decisions: Mapping[str, BoolArray]
    """Threshold policy to predictions (n, k); OWN too."""
    policy: str
    """The one behind OWN; of folds the first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """What all runs of a comparison were scored on."""

    role: str
    """TEST or OUT_OF_FOLD."""
    ids: tuple[str, ...]
    labels: LabelledScores
    """Labels and mask; its scores are those of one run."""
    groups: IntArray | None
    """Number of each example's group, (n,)."""


@dataclass(frozen=True)
class _Part:
    """What one run predicted, with its choices on dev."""

    run: ComparedRun
    split: Predictions
    choices: Evaluation


def load_runs(runs: Sequence[ComparedRun]) -> tuple[Examples | None, list[ScoredRun], list[ComparedRun]]:
    """Return the examples, the finished runs with their predictions, and the runs that cannot be scored.

    The latter have a cause each: failed and missing runs, and finished ones whose files are missing or damaged.
    Raises DataError when two runs predicted other examples or labels: their scores cannot be compared.
    """
    parts, unscored = _read_all(runs)
    by_model: dict[tuple[str, int], list[_Part]] = {}
    for part in parts:
        by_model.setdefault((part.run.configuration, part.run.seed), []).append(part)
    examples: Examples | None = None
    scored = []
    for found in by_model.values():
        if missing := _missing_folds(found):
            unscored += [replace(part.run, state="missing", cause=missing) for part in found]
            continue
        ids, pooled, build = _of_folds(found) if _fold(found[0].run) else _of_test(found)
        if examples is None:
            role = OUT_OF_FOLD if _fold(found[0].run) else TEST
            examples = Examples(role=role, ids=ids, labels=calibrate(pooled), groups=pooled.groups)
            first = found[0].run
        scored.append(build(_order(ids, pooled, examples, (found[0].run, first))))
    return examples, scored, unscored


def _read_all(runs: Sequence[ComparedRun]) -> tuple[list[_Part], list[ComparedRun]]:
    parts, unscored = [], []
    for run in runs:
        if run.state != "finished":
            unscored.append(run)
            continue
        try:
            parts.append(_read(run))
        except DataError as error:
            unscored.append(replace(run, state="missing", cause=str(error)))
    return parts, unscored


def _read(run: ComparedRun) -> _Part:
    if run.folder is None:
        raise DataError("Its files are not on this machine.")
    split = read_predictions(run.folder / artifacts.predictions_file("dev" if _fold(run) else "test"))
    try:
        choices = load_choices(run.folder)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"Cannot read its thresholds and calibration ({error}).") from error
    if choices.label_names != split.label_names:
        raise DataError("Its thresholds and predictions have other labels.")
    return _Part(run, split, choices)


def _fold(run: ComparedRun) -> int:
    return int(run.settings.get("fold", 0))


def _missing_folds(parts: Sequence[_Part]) -> str:
    """Return why the folds of a model cannot be pooled; empty where they can, and without folds."""
    folds = {_fold(part.run) for part in parts}
    if folds == {0}:
        return ""
    missing = sorted(set(range(1, int(parts[0].run.settings["folds"]) + 1)) - folds)
    return f"Fold {', '.join(map(str, missing))} has no result." if missing else ""


Build = Callable[[Array], ScoredRun]


def _of_test(parts: Sequence[_Part]) -> tuple[tuple[str, ...], Predictions, Build]:
    part = parts[-1]  # of two for one configuration and seed the later

    def build(order: Array) -> ScoredRun:
        split, choices = part.split.take(order), part.choices
        scores = calibrate(split, choices.calibration)
        decisions = {name: thresholds.predict(scores.probabilities, at) for name, at in choices.thresholds.items()}
        return _scored([part], calibrate(split), scores, decisions | {OWN: decisions[choices.policy]})

    return part.split.example_ids, part.split, build


def _of_folds(parts: Sequence[_Part]) -> tuple[tuple[str, ...], Predictions, Build]:
    pooled = _concatenate([part.split for part in parts])

    def build(order: Array) -> ScoredRun:
        numbers = np.repeat(np.arange(len(parts)), [part.split.num_examples for part in parts])[order]
        calibrated = np.concatenate([calibrate(part.split, part.choices.calibration).probabilities for part in parts])
        ordered = pooled.take(order)
        scores = ordered.with_probabilities(calibrated[order])
        # The thresholds of each fold are fitted on the others: its own run has fitted them on these examples.
        decisions = {
            name: cross_fitted_predictions(
                scores, name, fold_of_example=numbers, strength=parts[0].choices.choice.strength
            )
            for name in thresholds.POLICIES
        }
        return _scored(parts, calibrate(ordered), scores, decisions | {OWN: decisions[parts[0].choices.policy]})

    return pooled.example_ids, pooled, build


def _scored(
    parts: Sequence[_Part], raw: LabelledScores, scores: LabelledScores, decisions: Mapping[str, BoolArray]
) -> ScoredRun:
    return ScoredRun(
        configuration=parts[0].run.configuration,
        seed=parts[0].run.seed,
        runs=tuple(part.run for part in parts),
        raw=raw,
        scores=scores,
        decisions=decisions,
        policy=parts[0].choices.policy,
    )


def _concatenate(splits: Sequence[Predictions]) -> Predictions:
    first = splits[0]
    return Predictions(
        label_names=first.label_names,
        scores=np.concatenate([split.scores for split in splits]),
        labels=np.concatenate([split.labels for split in splits]),
        observed=np.concatenate([split.observed for split in splits]),
        example_ids=tuple(name for split in splits for name in split.example_ids),
        texts=tuple(text for split in splits for text in split.texts),
        columns={name: tuple(cell for split in splits for cell in split.columns[name]) for name in first.columns},
        group_column=first.group_column,
    )


def _order(
    ids: tuple[str, ...], split: Predictions, examples: Examples, runs: tuple[ComparedRun, ComparedRun]
) -> IntArray:
    """Return the positions in `split` of the examples. Raises DataError where examples or labels differ."""
    known = examples.labels
    if split.label_names != known.label_names:
        raise _differ(runs, "other labels")
    places = {name: place for place, name in enumerate(ids)}
    if places.keys() != set(examples.ids):
        raise _differ(runs, f"other examples ({len(places.keys() ^ set(examples.ids)):,} are in one alone)")
    order = np.array([places[name] for name in examples.ids], dtype=np.intp)
    same = np.array_equal(split.labels[order], known.labels) and np.array_equal(split.observed[order], known.observed)
    if not same:
        raise _differ(runs, "other labels of the same examples")
    return order


def _differ(runs: tuple[ComparedRun, ComparedRun], what: str) -> DataError:
    one, first = (f"{run.run_id} ({run.configuration}, seed {run.seed})" for run in runs)
    return DataError(f"Runs {one} and {first} predicted {what}. Compare runs on the same data set.")
