"""Intervals of the calibration error of likely cells, of one model or of the difference between two."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from trainer.evaluation.arrays import FloatArray, LabelledScores
from trainer.evaluation.calibration import LIKELY, NUM_BINS, bin_numbers
from trainer.evaluation.metrics import ratio
from trainer.evaluation.resampling import Resampling, resamples

__all__ = ["EstimatedError", "likely_error", "likely_error_rise"]


@dataclass(frozen=True)
class EstimatedError:
    """A calibration error, or a difference between two, with an approximate 95 % interval without the noise of bins."""

    value: float
    """On the examples as they are. Of a calibrated model it is above 0, the more so the fewer the examples."""
    low: float
    high: float


def likely_error(scores: LabelledScores, resampling: Resampling | None = None) -> EstimatedError | None:
    """Return the `likely_calibration_error` of a model; None without a cell above LIKELY."""
    gaps = _BinGaps.of(scores)
    if gaps is None:
        return None
    found = _estimate([gaps], resampling or Resampling())
    return replace(found, low=max(found.low, 0.0), high=max(found.high, 0.0))


def likely_error_rise(
    scores: LabelledScores, reference: LabelledScores, resampling: Resampling | None = None
) -> EstimatedError | None:
    """Return by how much the `likely_calibration_error` is above that of a reference on the same examples.

    None where either has no cell above LIKELY.
    """
    gaps, others = _BinGaps.of(scores), _BinGaps.of(reference)
    return None if gaps is None or others is None else _estimate([gaps, others], resampling or Resampling())


@dataclass(frozen=True)
class _BinGaps:
    """Sums over the likely cells of each example."""

    gaps: FloatArray
    """Probability minus label by bin, (n, bins)."""
    cells: FloatArray
    """Number of cells, (n,)."""

    @classmethod
    def of(cls, scores: LabelledScores) -> _BinGaps | None:
        likely = scores.keep(scores.probabilities > LIKELY)
        if not likely.observed.any():
            return None
        examples, _ = np.nonzero(likely.observed)
        probabilities, labels = likely.probabilities[likely.observed], likely.labels[likely.observed]
        places = examples * NUM_BINS + bin_numbers(probabilities)
        gaps = np.bincount(places, probabilities - labels, scores.num_examples * NUM_BINS)
        return cls(np.asarray(gaps, np.float64).reshape(-1, NUM_BINS), likely.observed.sum(axis=1).astype(np.float64))

    def errors(self, counts: FloatArray) -> FloatArray:
        """Return the calibration error of each resample, (resamples,)."""
        return ratio(np.abs(counts @ self.gaps).sum(axis=1), counts @ self.cells)


def _estimate(models: list[_BinGaps], resampling: Resampling) -> EstimatedError:
    """Return the error of the first model, minus that of the second if any.

    Resampling adds as much noise to each bin as sampling did, which raises the error by about as much. So the interval
    is the basic one, value minus the resamples' deviations from it, and not their percentiles.
    Source: Davison & Hinkley 1997, Bootstrap Methods and their Application, sec. 5.2.
    """
    num_examples = len(models[0].cells)

    def errors(counts: FloatArray) -> FloatArray:
        first, *second = (model.errors(counts) for model in models)
        return first - second[0] if second else first

    value = float(errors(np.ones((1, num_examples)))[0])
    drawn = np.concatenate([errors(counts) for counts in resamples(num_examples, resampling)])
    tail = (1.0 - resampling.level) / 2.0
    low, high = 2 * value - np.quantile(drawn, (1.0 - tail, tail))
    return EstimatedError(value, float(low), float(high))
