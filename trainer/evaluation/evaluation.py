"""From logits to an evaluation: calibration, thresholds, metrics, intervals, tables. Pure arithmetic on arrays.

Everything chosen here is chosen on dev; test is only measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from trainer.core import artifacts
from trainer.core.errors import DataError
from trainer.evaluation import bootstrap, calibration_fit, cross_validation, metrics, thresholds
from trainer.evaluation.arrays import Array, BoolArray, FloatArray, IntArray, LabelledScores
from trainer.evaluation.calibration import (
    IDENTITY,
    Calibration,
    calibrate,
    calibration_scores,
    negative_log_likelihood,
)
from trainer.evaluation.calibration_fit import CalibrationChoice
from trainer.evaluation.label_calibration import calibration_gaps
from trainer.evaluation.resampled_scores import headline_intervals
from trainer.evaluation.threshold_search import ThresholdCandidates

__all__ = [
    "Decisions",
    "Evaluation",
    "add_test",
    "check_dev",
    "evaluate_dev",
    "evaluate_predictions",
    "validation_metrics",
]

_VALIDATION_POLICY, _VALIDATION_STRENGTH = "per_label_shrunk", 20.0
_VALIDATION_FOLDS = 5
_VALIDATION_METRICS = ("macro_f1", "micro_f1", "macro_ap", "nll")
_CHOICE_SEEDS = 5


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on dev and test, with the calibration and thresholds chosen on dev."""

    label_names: tuple[str, ...]
    calibration_choice: CalibrationChoice
    """Fitted on dev."""
    thresholds: dict[str, FloatArray]
    """Policy → thresholds (k,), fitted on dev."""
    policy: str
    """The default policy: set by the user, or favoured by cross-validation on dev."""
    choice: cross_validation.PolicyChoice
    calibration_errors: dict[str, dict[str, dict[str, float]]]
    """Role → before | after → ece, ece_likely, brier, nll; those on dev after calibration are cross-fitted."""
    dev: dict[str, float]
    """Headline scores on dev; those that need thresholds are cross-fitted."""
    per_label: dict[str, list[metrics.LabelRow]]
    """Role → one row per label under the default policy; counts and F1 on dev are cross-fitted."""
    test: dict[str, dict[str, float]] = field(default_factory=dict)
    """Policy → headline scores on test; none where test has not been read."""
    intervals: dict[str, bootstrap.F1Intervals] = field(default_factory=dict)
    """Policy → 95 % intervals of F1 on test; none where test has not been read."""
    fitted_on: str = "dev"
    """Role of the examples that the choices were made on: dev, or the out-of-fold predictions of all folds."""
    origin: str = ""
    """Run or model that made the choices with dev held out, where that was another: then no scores on dev."""
    split: str = "test"
    """Role of the split that `test` and `intervals` are of; `evaluate` measures any."""

    @property
    def calibration(self) -> Calibration:
        """The map from logits to probabilities."""
        return self.calibration_choice.calibration

    def metrics(self) -> dict[str, float]:
        """Return every score of the model by its metric name."""
        named = {_dev_metric(name): value for name, value in self.dev.items()}
        if self.dev:
            named[artifacts.NESTED_MACRO_F1] = self.choice.scores[self.policy]
        if self.test:
            named |= self.test_metrics()
        for role, errors in self.calibration_errors.items():
            named[artifacts.metric(role, "ece_uncalibrated")] = errors["before"]["ece"]
        fitted = self.calibration
        return named | {"calibration/temperature": fitted.temperature, "calibration/bias": fitted.bias}

    def test_metrics(self) -> dict[str, float]:
        """Return the scores on the measured split by their metric names."""
        role = self.split
        named = {artifacts.metric(role, name): value for name, value in self.test[self.policy].items()}
        for policy, scores in self.test.items():
            for name in ("macro_f1", "micro_f1"):
                named[artifacts.policy_metric(role, name, policy)] = scores[name]
        for name, (low, high) in self.intervals[self.policy].headline.items():
            named |= {artifacts.metric(role, f"{name}_low"): low, artifacts.metric(role, f"{name}_high"): high}
        return named


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What is predicted of n examples and k labels under one or more threshold policies."""

    predictions: Mapping[str, BoolArray]
    """Policy → (n, k)."""
    thresholds: Mapping[str, FloatArray]
    """Policy → (k,); NaN where a label has no threshold of its own."""
    policy: str
    """The policy of the headline scores."""


def _dev_metric(name: str) -> str:
    metric = artifacts.metric("dev", name)
    return artifacts.final_metric(metric) if name in _VALIDATION_METRICS else metric


def check_dev(labels: Array, observed: Array, *, folds: int) -> None:
    """Raise DataError when dev cannot choose thresholds: too few examples to cross-fit over `folds`, or no positive.

    labels, observed: (n, k).
    """
    examples, needed = int(observed.any(axis=1).sum()), max(folds, _VALIDATION_FOLDS)
    if examples < needed:
        remedy = "Add examples, or lower threshold_folds." if folds > _VALIDATION_FOLDS else "Add examples."
        raise DataError(
            f"The dev split must have at least {needed} labelled examples to cross-fit thresholds, got {examples}. "
            + remedy
        )
    if not ((labels >= 0.5) & observed).any():
        raise DataError(
            "The dev split has no positive of any label, so no calibration or threshold can be fitted. "
            "Check its label columns, or add examples with labels."
        )


def validation_metrics(dev: LabelledScores, *, seed: int) -> dict[str, float]:
    """Return macro_f1 and micro_f1 with cross-fitted thresholds of one fixed policy, macro_ap and nll, of dev's logits.

    Training logs these at each evaluation. They need no calibration and choose no policy, so they are cheap and smooth.
    Unlike the loss, nll is comparable between losses.
    The scores of the finished model are other estimates and have other names (`artifacts.final_metric`).
    """
    scores = calibrate(dev)
    folds = cross_validation.stratified_folds(scores, folds=_VALIDATION_FOLDS, seed=seed)
    predictions = cross_validation.cross_fitted_predictions(
        scores, _VALIDATION_POLICY, fold_of_example=folds, strength=_VALIDATION_STRENGTH
    )
    named = metrics.decision_scores(scores, predictions) | {"nll": negative_log_likelihood(dev)}
    average_precision = metrics.macro_average_precision(scores)
    if average_precision is not None:
        named["macro_ap"] = average_precision
    return {name: named[name] for name in _VALIDATION_METRICS if name in named}


def evaluate_dev(dev: LabelledScores, *, calibration: str, policy: str, folds: int, seed: int) -> Evaluation:
    """Return the calibration, thresholds and scores on dev of a model's logits.

    calibration: one of METHODS or "auto". policy: one of POLICIES or "auto".
    """
    fold_of_example = cross_validation.stratified_folds(dev, folds=folds, seed=seed)
    calibrated = calibration_fit.choose_calibration(dev, calibration, fold_of_example=fold_of_example)
    scores = calibrate(dev, calibrated.calibration)
    seeds = [seed + offset for offset in range(_CHOICE_SEEDS)]
    choice = cross_validation.choose_policy(scores, seeds=seeds, folds=folds)
    chosen = choice.policy if policy == "auto" else policy
    search = thresholds.FittedThresholds.of(ThresholdCandidates.of(scores))
    fitted = {name: search.choose(name, choice.strength) for name in thresholds.POLICIES}
    predictions = cross_validation.cross_fitted_predictions(
        scores, chosen, fold_of_example=fold_of_example, strength=choice.strength
    )
    # Scores of choices that were fitted on the same examples are optimistic: these and the counts below are replaced.
    unseen = calibration_fit.cross_fitted_logits(dev, calibrated.method, fold_of_example=fold_of_example)
    errors = {"before": calibration_scores(dev), "after": calibration_scores(unseen)}
    rows = _label_rows(scores, fitted[chosen])
    return Evaluation(
        label_names=dev.label_names,
        calibration_choice=calibrated,
        thresholds=fitted,
        policy=chosen,
        choice=choice,
        calibration_errors={"dev": errors},
        dev=metrics.headline(scores, predictions) | errors["after"],
        per_label={"dev": _with_counts(rows, metrics.confusion_counts(scores, predictions))},
    )


def add_test(
    evaluation: Evaluation, test: LabelledScores, *, resamples: int, seed: int, groups: IntArray | None = None
) -> Evaluation:
    """Return the evaluation with the scores of its calibration and thresholds on test, from the model's logits.

    groups: (n,), examples with the same number are drawn together for the intervals.
    """
    scores = calibrate(test, evaluation.calibration)
    predictions = {name: thresholds.predict(scores.probabilities, at) for name, at in evaluation.thresholds.items()}
    resampling = bootstrap.Resampling(num_resamples=resamples, seed=seed)
    errors = {"before": calibration_scores(test), "after": calibration_scores(test, evaluation.calibration)}
    return _with_scores(evaluation, scores, predictions, errors, resampling, groups)


def evaluate_predictions(
    scores: LabelledScores,
    decisions: Decisions,
    *,
    resampling: bootstrap.Resampling,
    groups: IntArray | None = None,
    split: str = "test",
) -> Evaluation:
    """Return the scores of probabilities and predictions that were made elsewhere; nothing is fitted.

    groups: (n,), examples with the same number are drawn together for the intervals.
    """
    identity = CalibrationChoice(method="none", calibration=IDENTITY, scores={}, reason="")
    evaluation = Evaluation(
        label_names=scores.label_names,
        calibration_choice=identity,
        thresholds=dict(decisions.thresholds),
        policy=decisions.policy,
        choice=cross_validation.PolicyChoice(decisions.policy, 0.0, {}, {}),
        calibration_errors={},
        dev={},
        per_label={},
        origin="the model",
        split=split,
    )
    errors = {"before": {}, "after": calibration_scores(scores.with_logits(_logits(scores)))}
    found = _with_scores(evaluation, scores, decisions.predictions, errors, resampling, groups)
    chosen = found.intervals[found.policy]
    others = headline_intervals(scores, decisions.predictions[found.policy], resampling, groups=groups)
    return replace(
        found, intervals={**found.intervals, found.policy: replace(chosen, headline=others | chosen.headline)}
    )


def _with_scores(  # the parts of one evaluation
    evaluation: Evaluation,
    scores: LabelledScores,
    predictions: Mapping[str, BoolArray],
    errors: dict[str, dict[str, float]],
    resampling: bootstrap.Resampling,
    groups: IntArray | None = None,
) -> Evaluation:
    policy = evaluation.policy
    intervals = {
        name: bootstrap.bootstrap_intervals(scores, given, resampling, groups=groups)
        for name, given in predictions.items()
    }
    rows = _label_rows(scores, evaluation.thresholds[policy])
    rows = _with_counts(rows, metrics.confusion_counts(scores, predictions[policy]))
    shared = metrics.probability_scores(scores) | errors["after"]  # the same for all policies
    return replace(
        evaluation,
        calibration_errors=evaluation.calibration_errors | {"test": errors},
        per_label=evaluation.per_label | {"test": _with_intervals(rows, intervals[policy])},
        test={name: metrics.decision_scores(scores, given) | shared for name, given in predictions.items()},
        intervals=intervals,
    )


def _logits(scores: LabelledScores) -> FloatArray:
    """Return finite logits of probabilities, (n, k); 0 in unobserved cells, whose scores may be anything."""
    tiny = np.finfo(np.float64).eps
    probabilities = np.clip(np.where(scores.observed, scores.probabilities, 0.5), tiny, 1.0 - tiny)
    logits: FloatArray = np.log(probabilities) - np.log1p(-probabilities)
    return logits


def _label_rows(scores: LabelledScores, at: FloatArray) -> list[metrics.LabelRow]:
    pairs = zip(metrics.per_label(scores, at), calibration_gaps(scores), strict=True)
    return [row | gap for row, gap in pairs]


def _with_counts(rows: list[metrics.LabelRow], counts: metrics.Confusion) -> list[metrics.LabelRow]:
    """Return rows with the counted predictions in place of those at the threshold of the row."""
    columns = {"precision": counts.precision, "recall": counts.recall, "f1": counts.f1}
    return [
        row
        | {"predicted": int(counts.tp[j] + counts.fp[j])}
        | {name: float(values[j]) if counts.scored[j] else None for name, values in columns.items()}
        for j, row in enumerate(rows)
    ]


def _with_intervals(rows: list[metrics.LabelRow], intervals: bootstrap.F1Intervals) -> list[metrics.LabelRow]:
    return [
        row | {"f1_low": interval[0] if interval else None, "f1_high": interval[1] if interval else None}
        for row, interval in zip(rows, intervals.per_label, strict=True)
    ]
