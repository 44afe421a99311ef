"""The pictures a training run leaves, each from plain arrays to one PNG.

Shapes: n examples, k labels, any k from 1. Colours are Okabe and Ito's, told apart by every common kind of colour
vision (https://jfly.uni-koeln.de/color/); what a colour says, a marker or a position says too.
Matplotlib is loaded by the first figure, not by this module, and its global state stays as it was.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.metrics import MIN_SUPPORT
from trainer.reporting.figures import style
from trainer.reporting.figures.predictions import error_cooccurrence, precision_recall, reliability
from trainer.reporting.figures.style import AMBER, BLUE, GREEN, INK, PALE, SOFT, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from trainer.evaluation.bootstrap import PairedDifference

__all__ = [
    "error_cooccurrence",
    "f1_differences",
    "label_frequency",
    "loss_and_f1_curves",
    "per_label_f1",
    "precision_recall",
    "reliability",
    "thresholds_per_label",
]

Array = NDArray[Any]
_MARKS = ("o", "s", "^", "D", "v", "P")
_SERIES = (SOFT, AMBER, BLUE, GREEN, VERMILLION, INK)


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


def per_label_f1(path: Path, label_names: Sequence[str], f1: Array, intervals: Array, support: Array) -> Path:
    """Draw F1 per label, best first, with its 95 % interval and number of positives on test; returns `path`.

    f1: (k,). intervals: (k, 2), low and high; NaN where none is known. support: (k,). A label without positives
    comes last and is named as such; the dashed line is the mean over all k labels.
    """
    f1, intervals, support = np.asarray(f1, float), np.asarray(intervals, float), np.asarray(support)
    order = sorted(range(len(f1)), key=lambda label: (support[label] == 0, -np.nan_to_num(f1[label], nan=-1.0)))
    with style.sheet(path, (8.0, 0.245 * len(f1) + 1.6), "F1 per label on test") as figure:
        axes = figure.subplots()
        style.label_rows(axes, [label_names[label] for label in order])
        for row, label in enumerate(order):
            _f1_row(axes, row, f1[label], intervals[label], int(support[label]))
        mean = float(np.mean(f1))
        if np.isfinite(mean):
            axes.axvline(mean, color=VERMILLION, linewidth=1.2, linestyle=(0, (4, 3)), label=f"macro F1 {mean:.3f}")
            axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
        axes.set(xlim=(0, 1), xlabel="F1 (whisker: 95 % interval)")
        axes.text(1.02, -0.75, "positives", transform=axes.get_yaxis_transform(), color=SOFT, va="bottom")
    return path


def f1_differences(
    path: Path, label_names: Sequence[str], difference: "PairedDifference", support: Array, *, least: int = MIN_SUPPORT
) -> Path:
    """Draw how much F1 of each label differs between two models, with 95 % intervals, the gain first; returns `path`.

    support: positives on test (k,). The first row is macro-F1. Labels with fewer than `least` positives are pale: their
    intervals say little. A label without an observed cell is left out.
    """
    found = [(label, *gap) for label, gap in enumerate(difference.per_label) if gap is not None]
    found.sort(key=lambda row: -row[1])
    names = [f"{label_names[label]} ({int(support[label]):,})" for label, *_ in found]
    rows = [(difference.difference, difference.low, difference.high), *(row[1:] for row in found)]
    looks = [VERMILLION, *(BLUE if support[label] >= least else SOFT for label, *_ in found)]
    with style.sheet(
        path, (8.0, 0.245 * len(rows) + 1.6), "Difference in F1 on test, candidate minus champion"
    ) as figure:
        axes = figure.subplots()
        style.label_rows(axes, ["macro F1", *names])
        axes.axvline(0.0, color=INK, linewidth=1.0)
        for row, ((middle, low, high), colour) in enumerate(zip(rows, looks, strict=True)):
            axes.plot([low, high], [row, row], color=colour, linewidth=2.2 if row == 0 else 1.4, solid_capstyle="butt")
            axes.plot([middle], [row], marker="D" if row == 0 else "o", markersize=6, color=colour)
        axes.set_xlabel("gain in F1 (95 % interval); in brackets: positives on test")
    return path


def thresholds_per_label(path: Path, label_names: Sequence[str], thresholds: Mapping[str, Array]) -> Path:
    """Draw each policy's threshold for each label as a dot; returns `path`. thresholds: policy to (k,)."""
    with style.sheet(path, (8.0, 0.245 * len(label_names) + 1.6), "Decision threshold per label and policy") as figure:
        axes = figure.subplots()
        style.label_rows(axes, label_names)
        values = np.stack([np.broadcast_to(chosen, len(label_names)) for chosen in thresholds.values()])
        axes.hlines(range(len(label_names)), values.min(0), values.max(0), color=PALE, linewidth=3)
        _dots(axes, dict(zip(thresholds, values, strict=True)))
        axes.set(xlim=(0, 1), xlabel="probability from which the label is given")
    return path


def label_frequency(
    path: Path, label_names: Sequence[str], positives: Mapping[str, Array], rows: Mapping[str, int]
) -> Path:
    """Draw the share of examples with each label in every split, on a log axis, most frequent first; returns `path`.

    positives: split to (k,) counts; rows: split to number of examples; the first split gives the order.
    A label without an example in a split has its marker, hollow, at the far left.
    """
    shares = {split: np.asarray(counts, float) / rows[split] for split, counts in positives.items()}
    order = np.argsort(-next(iter(shares.values())), kind="stable")
    lowest = min((float(share[share > 0].min()) for share in shares.values() if (share > 0).any()), default=0.1)
    with style.sheet(path, (8.0, 0.245 * len(label_names) + 1.6), "How frequent each label is") as figure:
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.set_xlim(lowest / 2, 1)
        style.label_rows(axes, [label_names[label] for label in order])
        _dots(axes, {f"{split} ({rows[split]:,} rows)": share[order] for split, share in shares.items()}, lowest / 1.6)
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        axes.set_xlabel("share of examples (log scale; hollow, far left: none)")
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


def _f1_row(axes: "Axes", row: int, f1: float, interval: Array, support: int) -> None:
    axes.text(
        1.02, row, f"{support:,}", transform=axes.get_yaxis_transform(), va="center", color=INK if support else SOFT
    )
    if support == 0 or not np.isfinite(f1):
        axes.text(0.01, row, "not measured" if support else "no positives", va="center", color=SOFT, fontsize=8)
        return
    axes.barh(row, f1, height=0.7, color=BLUE, alpha=0.75)
    if np.isfinite(interval).all():
        axes.plot(interval, [row, row], color=INK, linewidth=1.3, solid_capstyle="butt")
        axes.plot(interval, [row, row], "|", color=INK, markersize=6)


def _dots(axes: "Axes", series: Mapping[str, Array], floor: float | None = None) -> None:
    """One colour and marker per series; a zero, which a log axis cannot hold, stands hollow at `floor`."""
    for place, (name, values) in enumerate(series.items()):
        look: dict[str, Any] = {"color": _SERIES[place % len(_SERIES)], "marker": _MARKS[place % len(_MARKS)]}
        rows = np.arange(len(values))
        shown = values > 0 if floor is not None else np.isfinite(values)
        axes.plot(values[shown], rows[shown], linestyle="none", markersize=6, label=style.plain(name), **look)
        if floor is not None:
            axes.plot(
                np.full((~shown).sum(), floor),
                rows[~shown],
                linestyle="none",
                markersize=6,
                fillstyle="none",
                **look,
            )
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=len(series),
        borderaxespad=0.2,
        columnspacing=1.2,
        handletextpad=0.2,
    )
