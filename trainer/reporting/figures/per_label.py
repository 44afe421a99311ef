"""Figures with one row per label: F1, differences in F1, thresholds, frequencies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.evaluation.arrays import Array
from trainer.evaluation.metrics import MIN_SUPPORT
from trainer.reporting.figures import style
from trainer.reporting.figures.style import AMBER, BLUE, GREEN, INK, PALE, SOFT, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from trainer.evaluation.comparison_results import PairResult

__all__ = ["f1_differences", "label_frequency", "per_label_f1", "thresholds_per_label"]

_MARKS = ("o", "s", "^", "D", "v", "P")
_SERIES = (SOFT, AMBER, BLUE, GREEN, VERMILLION, INK)
_MOST_ROWS = 100  # a row is a quarter of an inch high, and a PNG of matplotlib at most 455 inches


def per_label_f1(  # the columns of the figure
    path: Path, label_names: Sequence[str], f1: Array, intervals: Array, support: Array, *, split: str = "test"
) -> Path:
    """Draw F1 per label, best first, with its 95 % interval and number of positives; returns `path`.

    f1: (k,). intervals: (k, 2), low and high, or NaN. support: (k,). A label without positives comes last;
    the dashed line is the mean over all k labels.
    """
    f1, intervals, support = np.asarray(f1, float), np.asarray(intervals, float), np.asarray(support)
    shown, title = style.select(support, _MOST_ROWS, f"F1 per label on {split}", "positives")
    # -1: labels without a measured F1 come after those with an F1 of 0.
    order = sorted(shown, key=lambda label: (support[label] == 0, -np.nan_to_num(f1[label], nan=-1.0)))
    with style.sheet(path, _size(order), title) as figure:
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
    path: Path, label_names: Sequence[str], difference: "PairResult", support: Array, *, decision: str
) -> Path:
    """Draw how much F1 of each label differs between two models, with 95 % intervals, the gain first; returns `path`.

    support: positives on test (k,). decision: what the comparison led to, for the title. The first row is macro-F1.
    Labels with fewer than MIN_SUPPORT positives are grey, because their intervals are unreliable. A label without a
    positive is left out.
    """
    title = f"Difference in F1 on test, candidate minus champion: {decision}"
    shown, title = style.select(np.asarray(support), _MOST_ROWS, title, "positives")
    found = {label: gap for label in shown if (gap := difference.per_label[label]) is not None}
    gaps = [(label, gap.difference, gap.low, gap.high) for label, gap in found.items()]
    gaps.sort(key=lambda row: -row[1])
    names = [f"{label_names[label]} ({int(support[label]):,})" for label, *_ in gaps]
    rows = [(difference.difference, difference.low, difference.high), *(row[1:] for row in gaps)]
    looks = [VERMILLION, *(BLUE if support[label] >= MIN_SUPPORT else SOFT for label, *_ in gaps)]
    with style.sheet(path, _size(rows), title) as figure:
        axes = figure.subplots()
        style.label_rows(axes, ["macro F1", *names])
        axes.axvline(0.0, color=INK, linewidth=1.0)
        for row, ((middle, low, high), colour) in enumerate(zip(rows, looks, strict=True)):
            # butt: the default cap makes an interval longer than it is.
            axes.plot([low, high], [row, row], color=colour, linewidth=2.2 if row == 0 else 1.4, solid_capstyle="butt")
            axes.plot([middle], [row], marker="D" if row == 0 else "o", markersize=6, color=colour)
        axes.set_xlabel(
            f"gain in F1 (95 % interval); in brackets: positives on test; grey: fewer than {MIN_SUPPORT} of them"
        )
    return path


def thresholds_per_label(path: Path, label_names: Sequence[str], thresholds: Mapping[str, Array]) -> Path:
    """Draw each policy's threshold for each label as a dot; returns `path`. thresholds: policy to (k,)."""
    values = np.stack([np.broadcast_to(chosen, len(label_names)) for chosen in thresholds.values()])
    ranges = np.ptp(values, axis=0)
    shown, title = style.select(ranges, _MOST_ROWS, "Decision threshold per label and policy", "difference")
    shown = sorted(shown, key=lambda label: -values[:, label].mean())
    values = values[:, shown]
    with style.sheet(path, _size(shown), title) as figure:
        axes = figure.subplots()
        style.label_rows(axes, [label_names[label] for label in shown])
        axes.hlines(range(len(shown)), values.min(0), values.max(0), color=PALE, linewidth=3)
        _dots(axes, dict(zip(thresholds, values, strict=True)))
        axes.set(xlim=(0, 1), xlabel="lowest probability at which the label is predicted")
    return path


def label_frequency(
    path: Path, label_names: Sequence[str], positives: Mapping[str, Array], rows: Mapping[str, int]
) -> Path:
    """Draw the fraction of examples with each label in every split, most frequent first; returns `path`.

    positives: split to (k,) counts; rows: split to number of examples; the first split gives the order.
    A label without an example in a split has its marker, hollow, at the far left of the logarithmic axis.
    """
    fractions = {split: np.asarray(counts, float) / rows[split] for split, counts in positives.items()}
    first = next(iter(fractions.values()))
    shown, title = style.select(first, _MOST_ROWS, "Frequency of each label", "examples")
    order = np.array(shown)[np.argsort(-first[shown], kind="stable")]
    lowest = min((float(values[values > 0].min()) for values in fractions.values() if (values > 0).any()), default=0.1)
    with style.sheet(path, _size(order), title) as figure:
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.set_xlim(lowest / 2, 1)
        style.label_rows(axes, [label_names[label] for label in order])
        series = {f"{split} ({rows[split]:,} examples)": values[order] for split, values in fractions.items()}
        _dots(axes, series, lowest / 1.6)
        axes.xaxis.set_major_formatter(lambda fraction, _: f"{100 * fraction:g} %")
        axes.set_xlabel("fraction of examples (log scale; hollow, far left: none)")
    return path


def _size(rows: Sequence[Any] | Array) -> tuple[float, float]:
    """Return width and height in inches of a figure with these rows."""
    return 8.0, 0.245 * len(rows) + 1.6


def _f1_row(axes: "Axes", row: int, f1: float, interval: Array, support: int) -> None:
    axes.text(
        1.02, row, f"{support:,}", transform=axes.get_yaxis_transform(), va="center", color=INK if support else SOFT
    )
    if support == 0 or not np.isfinite(f1):
        axes.text(0.01, row, "not measured" if support else "no positives", va="center", color=SOFT, fontsize=8)
        return
    axes.barh(row, f1, height=0.7, color=BLUE, alpha=0.75)
    if np.isfinite(interval).all():
        axes.plot(interval, [row, row], color=INK, linewidth=1.3, solid_capstyle="butt")  # as above
        axes.plot(interval, [row, row], "|", color=INK, markersize=6)


def _dots(axes: "Axes", series: Mapping[str, Array], floor: float | None = None) -> None:
    """Draw one colour and marker per series; a zero, which a log axis does not have, is hollow at `floor`."""
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
