"""The curves of a training over its optimizer steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.reporting.figures import style
from trainer.reporting.figures.style import BLUE, GREEN, INK, SOFT, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["loss_and_f1_curves"]


def loss_and_f1_curves(path: Path, history: Sequence[Mapping[str, float]]) -> Path:
    """Draw loss, F1 on dev and learning rate over optimizer steps; returns `path`.

    history: rows with `step` and any of train/loss, dev/loss, dev/macro_f1, dev/micro_f1, train/learning_rate.
    A row without a key, or with a number that is not finite, adds no point to that curve.
    """
    with style.sheet(path, (8.5, 7.2), "Loss, F1 and learning rate over training") as figure:
        loss, f1, rate = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1.4])
        _curves(loss, history, {"train/loss": (SOFT, "", "train"), "dev/loss": (BLUE, "o", "dev")})
        _curves(f1, history, {"dev/macro_f1": (BLUE, "o", "macro"), "dev/micro_f1": (VERMILLION, "s", "micro")})
        _curves(rate, history, {"train/learning_rate": (GREEN, "", "")})
        _mark_best(f1, *_points(history, "dev/macro_f1"))
        for axes, unit in ((loss, "loss per example"), (f1, "F1 on dev"), (rate, "learning rate")):
            axes.set_ylabel(unit)
        for axes in (loss, f1):
            if axes.lines:
                axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=False)
        rate.set_xlabel("optimizer step")
        rate.set_xlim(left=0)
        rate.xaxis.set_major_formatter("{x:,.0f}")
    return path


def _points(history: Sequence[Mapping[str, float]], key: str) -> tuple[list[float], list[float]]:
    pairs = sorted((row["step"], row[key]) for row in history if key in row and np.isfinite(row[key]))
    return [step for step, _ in pairs], [value for _, value in pairs]


def _curves(axes: "Axes", history: Sequence[Mapping[str, float]], looks: Mapping[str, tuple[str, str, str]]) -> None:
    missing = []
    for key, (color, marker, label) in looks.items():
        steps, values = _points(history, key)
        lone = "." if len(steps) == 1 else ""  # a line of one point is invisible
        if steps:
            axes.plot(steps, values, color=color, marker=marker or lone, markersize=5, linewidth=1.5, label=label)
        else:
            missing.append(key)
    if missing:
        axes.text(0.99, 0.04, f"not recorded: {', '.join(missing)}", transform=axes.transAxes, ha="right", color=SOFT)


def _mark_best(axes: "Axes", steps: Sequence[float], values: Sequence[float]) -> None:
    if values:
        best = int(np.argmax(values))
        axes.plot(steps[best], values[best], "o", markersize=12, fillstyle="none", color=INK)
        style.note(axes, f"best macro F1 {values[best]:.3f} at step {steps[best]:,.0f} (circled)")
