"""From logits to an outcome: temperature, thresholds, metrics, intervals, tables. Pure arithmetic on arrays.

Everything chosen here is chosen on dev; test is only measured.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from trainer.core import artifacts
from trainer.core.errors import DataError
from trainer.evaluation import bootstrap, calibration, cross_validation, metrics, thresholds

__all__ = ["Evaluated", "Evaluation", "assess", "check_dev", "quick_scores", "with_test"]

Array = NDArray[Any]
_STEERING_POLICY, _STEERING_STRENGTH = "per_label_shrunk", 20.0
_STEERING_FOLDS = 5
_CHOICE_SEEDS = 5


@dataclass(frozen=True)
class Evaluated:
    """Logits of a split beside its truth: logits, labels, observed (n, k); row ids (n,)."""

    logits: Array
    labels: Array
    observed: Array
    row_ids: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """What a model is worth, and how to use it."""

    label_names: tuple[str, ...]
    temperature: float
    """Divides logits before the sigmoid; fitted on dev."""
    thresholds: dict[str, Array]
    """Policy → thresholds (k,), fitted on dev."""
    policy: str
    """The default policy: set by the user, or favoured by cross-validation on dev."""
    choice: cross_validation.PolicyChoice
    calibration: dict[str, dict[str, dict[str, float]]]
    """Role → before | after → ece, brier, nll."""
    dev: dict[str, float]
    """Headline scores on dev; those that need thresholds are cross-fitted."""
    per_label: dict[str, list[metrics.LabelRow]]
    """Role → one row per label under the default policy; counts and F1 on dev are cross-fitted."""
    test: dict[str, dict[str, float]] = field(default_factory=dict)
    """Policy → headline scores on test; none where test has not been read."""
    intervals: dict[str, bootstrap.F1Intervals] = field(default_factory=dict)
    """Policy → 95 % intervals of F1 on test; none where test has not been read."""
    origin: str = ""
    """Run that made the choices with dev held out, where that was another: then there are no scores on dev."""

    def metrics(self) -> dict[str, float]:
        """Every score by its metric name, for the tracking server."""
        named = {artifacts.metric("dev", name): value for name, value in self.dev.items()}
        if self.test:
            named |= self._test_metrics()
        for role, rows in self.per_label.items():
            named |= {
                artifacts.label_metric(role, "f1", str(row["label"])): float(row["f1"])
                for row in rows
                if row["f1"] is not None
            }
        for role, stages in self.calibration.items():
            named[artifacts.metric(role, "ece_uncalibrated")] = stages["before"]["ece"]
        return named | {"calibration/temperature": self.temperature}

    def _test_metrics(self) -> dict[str, float]:
        named = {artifacts.metric("test", name): value for name, value in self.test[self.policy].items()}
        for policy, scores in self.test.items():
            for name in ("macro_f1", "micro_f1"):
                named[artifacts.policy_metric("test", name, policy)] = scores[name]
        for name, (low, high) in self.intervals[self.policy].headline.items():
            named |= {artifacts.metric("test", f"{name}_low"): low, artifacts.metric("test", f"{name}_high"): high}
        return named


def check_dev(observed: Array, *, folds: int) -> None:
    """Raise DataError when dev, with this mask (n, k), has too few rows to cross-fit thresholds over `folds`."""
    rows, needed = int(observed.any(axis=1).sum()), max(folds, _STEERING_FOLDS)
    if rows < needed:
        raise DataError(
            f"dev must have at least {needed} rows, to cross-fit thresholds on, but got {rows=}. "
            + ("Add rows, or lower threshold_folds." if folds > _STEERING_FOLDS else "Add rows.")
        )


def quick_scores(logits: Array, labels: Array, observed: Array, *, seed: int) -> dict[str, float]:
    """macro_f1 and micro_f1 with cross-fitted thresholds, macro_ap: what steers training. Arrays (n, k)."""
    probabilities = calibration.apply_temperature(logits, 1.0)
    folds = cross_validation.assign_folds(labels, observed, folds=_STEERING_FOLDS, seed=seed)
    predictions = cross_validation.crossfit_predictions(
        probabilities, labels, observed, _STEERING_POLICY, fold_of_row=folds, strength=_STEERING_STRENGTH
    )
    scores = metrics.headline(probabilities, predictions, labels, observed)
    return {name: scores[name] for name in ("macro_f1", "micro_f1", "macro_ap") if name in scores}


def assess(label_names: tuple[str, ...], dev: Evaluated, *, policy: str, folds: int, seed: int) -> Evaluation:
    """What follows from a model's logits on dev; `policy` is one of POLICIES or "auto"."""
    temperature = calibration.fit_temperature(dev.logits, dev.labels, dev.observed)
    on_dev = calibration.apply_temperature(dev.logits, temperature)
    choice = cross_validation.choose_policy(
        on_dev, dev.labels, dev.observed, seeds=[seed + offset for offset in range(_CHOICE_SEEDS)], folds=folds
    )
    chosen = choice.policy if policy == "auto" else policy
    cuts = {
        name: thresholds.fit_policy(name, on_dev, dev.labels, dev.observed, strength=choice.strength)
        for name in thresholds.POLICIES
    }
    fold_of_row = cross_validation.assign_folds(dev.labels, dev.observed, folds=folds, seed=seed)
    predictions = cross_validation.crossfit_predictions(
        on_dev, dev.labels, dev.observed, chosen, fold_of_row=fold_of_row, strength=choice.strength
    )
    rows = metrics.per_label(label_names, on_dev, cuts[chosen], dev.labels, dev.observed)
    return Evaluation(
        label_names=label_names,
        temperature=temperature,
        thresholds=cuts,
        policy=chosen,
        choice=choice,
        calibration={"dev": _calibration(dev, temperature)},
        dev=metrics.headline(on_dev, predictions, dev.labels, dev.observed),
        per_label={"dev": _with_counts(rows, metrics.confusion_counts(predictions, dev.labels, dev.observed))},
    )


def with_test(outcome: Evaluation, test: Evaluated, *, resamples: int, seed: int) -> Evaluation:
    """The same outcome with what its temperature and thresholds are worth on test, from the model's logits there."""
    on_test = calibration.apply_temperature(test.logits, outcome.temperature)
    predictions = {name: thresholds.predict(on_test, values) for name, values in outcome.thresholds.items()}
    resampling = bootstrap.Resampling(num_resamples=resamples, seed=seed)
    intervals = {
        name: bootstrap.bootstrap_intervals(given, test.labels, test.observed, resampling)
        for name, given in predictions.items()
    }
    cuts = outcome.thresholds[outcome.policy]
    rows = metrics.per_label(outcome.label_names, on_test, cuts, test.labels, test.observed)
    return replace(
        outcome,
        calibration=outcome.calibration | {"test": _calibration(test, outcome.temperature)},
        per_label=outcome.per_label | {"test": _with_intervals(rows, intervals[outcome.policy])},
        test={
            name: metrics.headline(on_test, given, test.labels, test.observed) for name, given in predictions.items()
        },
        intervals=intervals,
    )


def _calibration(split: Evaluated, temperature: float) -> dict[str, dict[str, float]]:
    return {
        stage: {
            "ece": calibration.expected_calibration_error(probabilities, split.labels, split.observed),
            "brier": calibration.brier_score(probabilities, split.labels, split.observed),
            "nll": calibration.negative_log_likelihood(split.logits / divisor, split.labels, split.observed),
        }
        for stage, divisor in (("before", 1.0), ("after", temperature))
        for probabilities in [calibration.apply_temperature(split.logits, divisor)]
    }


def _with_counts(rows: list[metrics.LabelRow], counts: metrics.Confusion) -> list[metrics.LabelRow]:
    """Rows whose decisions are the counted ones, in place of those at the threshold in the row."""
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
