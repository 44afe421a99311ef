"""How far the probabilities of each label are from the observed frequency, where they are not close to 0."""

from __future__ import annotations

import numpy as np

from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.calibration import LIKELY
from trainer.evaluation.metrics import LabelRow

__all__ = ["calibration_gaps"]


def calibration_gaps(scores: LabelledScores, level: float = 0.95) -> list[LabelRow]:
    """Return one row per label, in label order: likely, calibration_gap, calibration_gap_low, calibration_gap_high.

    likely: observed cells with a probability above LIKELY; the many cells near 0 would hide an error of these.
    calibration_gap: their mean probability minus the fraction that has the label, so a positive gap says that the model
    is too sure; None without such a cell. The interval is Wilson's of the fraction. Gaps of opposite sign at low and at
    high probabilities cancel; `ece` counts both.
    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.
    """
    from scipy.stats import binomtest  # slow to import

    rows: list[LabelRow] = []
    likely = scores.observed & (np.where(scores.observed, scores.scores, 0.0) > LIKELY)
    for label in range(scores.num_labels):
        cells = likely[:, label]
        count = int(cells.sum())
        row: LabelRow = {"likely": count, "calibration_gap": None}
        if count:
            hits, mean = int(scores.positives[cells, label].sum()), float(scores.probabilities[cells, label].mean())
            ends = binomtest(hits, count).proportion_ci(confidence_level=level, method="wilson")
            row |= {"calibration_gap": mean - hits / count}
            row |= {"calibration_gap_low": mean - float(ends.high), "calibration_gap_high": mean - float(ends.low)}
        rows.append(row)
    return rows
