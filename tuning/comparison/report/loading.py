"""The predictions of the runs of a comparison, on the same examples in the same order.

That is test, or with folds the examples of train and dev, each predicted by the run that held it out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.core import artifacts
from trainer.core.errors import DataError
from trainer.evaluation import thresholds
from trainer.evaluation.arrays import BoolArray, IntArray, LabelledScores
from trainer.evaluation.calibration import calibrate
from trainer.evaluation.evaluation import Evaluation
from trainer.runs.out_of_fold import cross_fitted, pool
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
    """The one behind OWN; of folds that of the last, as are the method of calibration and the shrinkage strength."""


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

    @property
    def fold(self) -> int:
        """The fold that the run held out; 0 without folds, and for the run of a whole cross-validation."""
        return int(self.run.settings.get("fold", 0))

    @property
    def folds(self) -> int:
        """Number of folds; 0 without."""
        return int(self.run.settings.get("folds", 0))


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
        split = _pooled(found)
        if examples is None:
            role = OUT_OF_FOLD if found[0].folds else TEST
            examples = Examples(role=role, ids=split.example_ids, labels=calibrate(split), groups=split.groups)
            first = found[0].run
        ordered = split.take(_order(split, examples, (found[0].run, first)))
        scored.append(_out_of_fold(found, ordered) if found[0].folds else _of_test(found[-1], ordered))
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
    is_fold, has_folds = (bool(run.settings.get(name, 0)) for name in ("fold", "folds"))
    role = "dev" if is_fold else artifacts.OUT_OF_FOLD if has_folds else "test"
    split = read_predictions(run.folder / artifacts.predictions_file(role))
    try:
        choices = load_choices(run.folder)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"Cannot read its thresholds and calibration ({error}).") from error
    if choices.label_names != split.label_names:
        raise DataError("Its thresholds and predictions have other labels.")
    return _Part(run, split, choices)


def _missing_folds(parts: Sequence[_Part]) -> str:
    """Return why the folds of a model cannot be pooled; empty where they can, and without folds."""
    found = {part.fold for part in parts}
    missing = sorted(set(range(1, parts[0].folds + 1)) - found) if 0 not in found else []
    return f"Fold {', '.join(map(str, missing))} has no result." if missing else ""


def _pooled(parts: Sequence[_Part]) -> Predictions:
    by_fold = {part.fold: part.split for part in parts}  # of two for one model the later
    return by_fold[0] if 0 in by_fold else pool(by_fold)


def _of_test(part: _Part, split: Predictions) -> ScoredRun:
    choices = part.choices
    scores = calibrate(split, choices.calibration)
    decisions = {name: thresholds.predict(scores.probabilities, at) for name, at in choices.thresholds.items()}
    return _scored([part], split, scores, decisions)


def _out_of_fold(parts: Sequence[_Part], split: Predictions) -> ScoredRun:
    choices = parts[-1].choices
    scores, decisions = cross_fitted(split, method=choices.calibration_choice.method, strength=choices.choice.strength)
    return _scored(parts, split, scores, decisions)


def _scored(
    parts: Sequence[_Part], split: Predictions, scores: LabelledScores, decisions: Mapping[str, BoolArray]
) -> ScoredRun:
    policy = parts[-1].choices.policy
    return ScoredRun(
        configuration=parts[0].run.configuration,
        seed=parts[0].run.seed,
        runs=tuple(part.run for part in parts),
        raw=calibrate(split),
        scores=scores,
        decisions={**decisions, OWN: decisions[policy]},
        policy=policy,
    )


def _order(split: Predictions, examples: Examples, runs: tuple[ComparedRun, ComparedRun]) -> IntArray:
    """Return the positions in `split` of the examples. Raises DataError where examples or labels differ."""
    known = examples.labels
    if split.label_names != known.label_names:
        raise _differ(runs, "other labels")
    places = {name: place for place, name in enumerate(split.example_ids)}
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
