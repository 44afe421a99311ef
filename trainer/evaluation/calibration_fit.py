"""Methods that fit a calibration, cross-fitted scores of them, and the choice of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from trainer.evaluation.arrays import Array, FloatArray, LabelledScores
from trainer.evaluation.calibration import IDENTITY, Calibration, sigmoid

__all__ = ["METHODS", "CalibrationChoice", "choose_calibration", "cross_fitted_logits", "fit_platt", "fit_temperature"]

_SCALES = (0.05, 20.0)  # of the logits; above 0, so that the order of probabilities is that of logits
_BEYOND_ERRORS = 1.0  # standard errors by which a method must be better than a simpler one


@dataclass(frozen=True, kw_only=True)
class CalibrationChoice:
    """The calibration that was fitted, and the scores of all methods where several were compared."""

    method: str
    """One of METHODS."""
    calibration: Calibration
    """Fitted on all examples."""
    scores: dict[str, float] = field(default_factory=dict)
    """Method → cross-fitted negative log-likelihood per cell."""
    reason: str = ""
    """Why nothing could be fitted; empty where something was."""


def fit_temperature(scores: LabelledScores) -> Calibration:
    """Return the temperature that fits the logits best, without a bias.

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599.
    """
    return _fit(scores, bias_bounds=(0.0, 0.0))


def fit_platt(scores: LabelledScores) -> Calibration:
    """Return the temperature and bias, shared by all labels, that fit the logits best.

    Losses that treat positives and negatives differently shift logits, which no temperature undoes.
    Source: Platt 1999, Probabilistic outputs for support vector machines, in Advances in Large Margin Classifiers.
    """
    return _fit(scores, bias_bounds=(None, None))


METHODS: Mapping[str, Callable[[LabelledScores], Calibration]] = {
    "none": lambda scores: IDENTITY,
    "temperature": fit_temperature,
    "platt": fit_platt,
}
"""From the simplest to the most flexible; each takes logits."""


def choose_calibration(scores: LabelledScores, method: str, *, fold_of_example: Array) -> CalibrationChoice:
    """Return the calibration of one of METHODS, or with "auto" the best of them by cross-fitted likelihood.

    A method counts as better than a simpler one only beyond one standard error of their paired difference. Logits
    whose labels are all alike are left as they are. fold_of_example: (n,), from stratified_folds.
    """
    if reason := _unfit(scores):
        return CalibrationChoice(method="none", calibration=IDENTITY, reason=reason)
    if method != "auto":
        return CalibrationChoice(method=method, calibration=METHODS[method](scores))
    by_method = {name: _losses(cross_fitted_logits(scores, name, fold_of_example=fold_of_example)) for name in METHODS}
    best = min(by_method, key=lambda name: by_method[name].sum())
    chosen = next(name for name in METHODS if _is_as_good(by_method[name], by_method[best]))
    num_cells = np.count_nonzero(scores.observed)
    return CalibrationChoice(
        method=chosen,
        calibration=METHODS[chosen](scores),
        scores={name: float(losses.sum() / num_cells) for name, losses in by_method.items()},
    )


def cross_fitted_logits(scores: LabelledScores, method: str, *, fold_of_example: Array) -> LabelledScores:
    """Return the split with calibrated logits, those of each example by a calibration fitted on the other folds."""
    calibrated = np.zeros(scores.labels.shape)
    for fold in np.unique(fold_of_example):
        examples = fold_of_example == fold
        rest = scores.take(~examples)
        calibration = IDENTITY if _unfit(rest) else METHODS[method](rest)
        calibrated[examples] = calibration.logits(scores.logits[examples])
    return scores.with_logits(calibrated)


def _fit(scores: LabelledScores, bias_bounds: tuple[float | None, float | None]) -> Calibration:
    """Return the calibration with the lowest negative log-likelihood of labels moved a little towards each other.

    With p positives, 1 becomes (p + 1) / (p + 2), and 0 likewise: the likelihood of labels that the logits separate
    would have no maximum. The order of probabilities stays that of the logits, also where these rank backwards.
    """
    from scipy.optimize import minimize  # slow to import, and most callers never fit

    logits, targets = scores.logits[scores.observed], _smoothed(scores.labels[scores.observed])

    def loss_and_slopes(parameters: FloatArray) -> tuple[float, FloatArray]:
        scale, bias = parameters
        calibrated = scale * logits + bias
        gaps = sigmoid(calibrated) - targets
        loss = (np.logaddexp(0.0, calibrated) - targets * calibrated).mean()
        return float(loss), np.array([(gaps * logits).mean(), gaps.mean()])

    found = minimize(
        loss_and_slopes,
        (1.0, 0.0),
        jac=True,
        method="L-BFGS-B",
        bounds=(_SCALES, bias_bounds),
        options={"ftol": 1e-14, "gtol": 1e-9},
    )
    scale, bias = found.x.tolist()
    return Calibration(temperature=1.0 / scale, bias=bias)


def _smoothed(labels: FloatArray) -> FloatArray:
    positives = labels.sum()
    high, low = (positives + 1) / (positives + 2), 1 / (len(labels) - positives + 2)
    smoothed: FloatArray = low + labels * (high - low)
    return smoothed


def _unfit(scores: LabelledScores) -> str:
    """Return why no calibration can be fitted, or nothing."""
    labels = scores.labels[scores.observed]
    if not labels.any():
        return "no label has a positive"
    return "every label of every example is positive" if (labels == 1.0).all() else ""


def _losses(logits: LabelledScores) -> FloatArray:
    """Return the negative log-likelihood of each example, summed over its observed cells, (n,)."""
    values = np.where(logits.observed, logits.logits, 0.0)  # others may be anything
    losses = np.logaddexp(0.0, values) - logits.labels * values
    sums: FloatArray = losses.sum(axis=1, where=logits.observed)
    return sums


def _is_as_good(losses: FloatArray, best: FloatArray) -> bool:
    """Return True unless the losses (n,) are higher than the best by more than the standard error of the sum."""
    gaps = losses - best
    return bool(gaps.sum() <= _BEYOND_ERRORS * gaps.std(ddof=1) * np.sqrt(len(gaps)))
