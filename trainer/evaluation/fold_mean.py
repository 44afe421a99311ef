"""The mean of a score over the folds of a cross-validation, with an interval that allows for their shared examples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.core.errors import DataError

__all__ = ["FoldMean", "mean_over_folds"]

_LEVEL = 0.95


@dataclass(frozen=True)
class FoldMean:
    """A score over the folds."""

    mean: float
    sd: float
    """Standard deviation between the folds."""
    low: float
    high: float
    """The 95 % interval of the mean, within [0, 1]."""


def mean_over_folds(scores: Sequence[float]) -> FoldMean:
    """Return mean, standard deviation and 95 % interval of one score per fold, each in [0, 1].

    Any two trainings of k folds share most of their examples, so their scores are not independent, and no unbiased
    estimate of the variance of their mean exists. The interval multiplies the variance between folds by 1/k + 1/(k - 1)
    instead of 1/k: held-out part and training part of a fold have the sizes 1 and k - 1.
    Raises DataError for fewer than two scores.
    Source: Nadeau and Bengio 2003, https://doi.org/10.1023/A:1024068626366.
    """
    from scipy import stats

    folds = len(scores)
    if folds < 2:
        raise DataError(f"The mean over folds needs at least 2 scores, got {folds}.")
    mean, sd = float(np.mean(scores)), float(np.std(scores, ddof=1))
    half = float(stats.t.ppf((1 + _LEVEL) / 2, folds - 1)) * sd * math.sqrt(1 / folds + 1 / (folds - 1))
    return FoldMean(mean, sd, max(mean - half, 0.0), min(mean + half, 1.0))
