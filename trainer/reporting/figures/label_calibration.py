"""The figure of the calibration of each label."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.evaluation.calibration import LIKELY
from trainer.evaluation.metrics import MIN_SUPPORT
from trainer.reporting.figures import style
from trainer.reporting.figures.style import BLUE, INK, SOFT

__all__ = ["label_calibration"]

_MOST_ROWS = 100
_FEWEST = 10
"""Fewest likely examples of a label that is drawn: the interval of fewer would stretch the axis."""


def label_calibration(path: Path, rows: Sequence[Mapping[str, Any]], *, split: str = "test") -> Path:
    """Draw the calibration gap of each label with its 95 % interval, the largest first; returns `path`.

    rows: one per label, with label, likely, calibration_gap, calibration_gap_low, calibration_gap_high. A label with
    fewer than 10 probabilities above LIKELY is left out; with fewer than MIN_SUPPORT it is grey.
    """
    known = [row for row in rows if row["likely"] >= _FEWEST]
    likely = np.array([row["likely"] for row in known])
    shown, title = style.select(likely, _MOST_ROWS, f"Calibration of each label on {split}", "likely examples")
    order = sorted(shown, key=lambda place: -known[place]["calibration_gap"])
    with style.sheet(path, (8.0, 0.245 * len(order) + 1.9), title) as figure:
        axes = figure.subplots()
        style.label_rows(axes, [f"{known[place]['label']} ({likely[place]:,})" for place in order])
        axes.axvline(0.0, color=INK, linewidth=1.0)
        for number, place in enumerate(order):
            row, colour = known[place], BLUE if likely[place] >= MIN_SUPPORT else SOFT
            ends = [row["calibration_gap_low"], row["calibration_gap_high"]]
            axes.plot(ends, [number, number], color=colour, linewidth=1.4, solid_capstyle="butt")
            axes.plot([row["calibration_gap"]], [number], "o", color=colour, markersize=6)
        axes.set_xlabel(
            "mean probability minus fraction with the label (95 % interval); right of 0: too sure\n"
            f"in brackets: examples with a probability above {LIKELY:g}; {_FEWEST} at least; grey: under {MIN_SUPPORT}"
        )
    return path
