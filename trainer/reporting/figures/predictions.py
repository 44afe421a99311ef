"""Figures that compare predictions with labels, example by example."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.evaluation.arrays import Array, BoolArray, LabelledScores
from trainer.evaluation.confusions import replacements
from trainer.reporting.figures import style
from trainer.reporting.figures.style import BLUE, INK, LINE, SOFT, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["error_cooccurrence", "precision_recall", "reliability"]

_BINS = 15
_COLUMNS = 5
_LINE = 0.25
"""Height in inches of a line of the title."""
_MOST_LABELS = 40  # a panel takes 0.1 s, and a heat map memory that grows with the square of the labels


def precision_recall(path: Path, scores: LabelledScores, predictions: BoolArray, *, split: str = "test") -> Path:
    """Draw one precision-recall panel per label with the point of its predictions (n, k); returns `path`.

    Thin grey lines join points of equal F1. The panel of a label without positives is empty.
    """
    shown, title = style.select(scores.support, _MOST_LABELS, f"Precision and recall per label on {split}", "positives")
    columns = min(_COLUMNS, ceil(len(shown) ** 0.5 * 1.3))
    rows = ceil(len(shown) / columns)
    width, height = max(1.75 * columns + 0.6, 4.6), 1.75 * rows + 0.9 + _LINE * title.count("\n")
    with style.sheet(path, (width, height), title, computed=False) as figure:
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        grid.flat[0].set(
            xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1]
        )  # shared by all
        for axes in grid.flat[len(shown) :]:
            axes.set_axis_off()
        # The last row may have empty panels.
        for place, (label, axes) in enumerate(zip(shown, grid.flat, strict=False)):
            _panel(axes, scores, label, predictions[:, label])
            axes.tick_params(labelbottom=place + columns >= len(shown))
        _spread(figure, 0.62 + _LINE * title.count("\n"))
        figure.supxlabel("recall  (dot and number: F1 at the chosen threshold)", fontsize=9, y=0.08 / height)
        figure.supylabel("precision", fontsize=9, x=0.08 / width)
    return path


def reliability(
    path: Path,
    before: LabelledScores | None,
    after: LabelledScores,
    ece: tuple[float | None, float] | None = None,
    *,
    split: str = "test",
) -> Path:
    """Draw observed frequency against predicted probability before and after calibration; returns `path`.

    before: None where only the calibrated probabilities are known. ece: the calibration errors, for the legend.
    Every observed cell of every label counts once; whiskers are Wilson 95 % intervals.
    """
    texts = [f"{name}, ECE {one:.4f}" if one is not None else name for name, one in _named(before, ece)]
    title = f"Calibration on {split}" + ("" if before is None else ", before and after the fit on dev")
    with style.sheet(path, (6.4, 7.2), title) as figure:
        frequency, counts = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        frequency.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        if before is not None:
            _calibration((frequency, counts), before, (VERMILLION, "s", texts[0]))
        _calibration((frequency, counts), after, (BLUE, "o", texts[-1]))
        frequency.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), ylabel="fraction of cells with the label")
        frequency.legend(loc="upper left")
        style.note(frequency, "on the dashed line, 70 % of the predictions of 70 % are right")
        counts.set(yscale="log", xlabel="predicted probability", ylabel="cells")
    return path


def error_cooccurrence(path: Path, scores: LabelledScores, predictions: BoolArray, *, split: str = "test") -> Path:
    """Draw the labels predicted where a label is missed; returns `path`.

    Row i: the examples with label i, for which it is not predicted. Column j: the fraction of them where j,
    which the example does not have, is predicted; the last column: no label at all. On the right, the number of misses.
    """
    found = replacements(scores, predictions)
    misses = found.misses
    shown, title = style.select(misses, _MOST_LABELS, f"Labels predicted where a label is missed on {split}", "misses")
    names = [style.plain(scores.label_names[label]) for label in shown]
    misses, fractions = misses[shown], found.fractions[np.ix_(shown, [*shown, scores.num_labels])]
    side = 0.3 * len(names) + 2.4
    with style.sheet(path, (max(side + 2.4, 6.8), side + 0.4), title) as figure:
        heat, bars = figure.subplots(1, 2, width_ratios=[len(names) + 1, max(2.0, 0.17 * len(names))])
        _heat_map(heat, names, fractions)
        _miss_bars(bars, misses, scores.support[shown])
    return path


def _named(before: LabelledScores | None, ece: tuple[float | None, float] | None) -> list[tuple[str, float | None]]:
    """Return what the legend calls each series, with its calibration error."""
    if before is None:
        return [("calibrated", ece[1] if ece else None)]
    return list(zip(("before", "after"), ece or (None, None), strict=True))


def _spread(figure: "Figure", top: float) -> None:
    """Set fixed margins in inches, which is several times faster for many equal panels than a computed layout."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(left=0.55 / width, right=1 - 0.12 / width, bottom=0.5 / height, top=1 - top / height)
    figure.subplots_adjust(wspace=0.13, hspace=0.24)


def _panel(axes: "Axes", scores: LabelledScores, label: int, predicted: BoolArray) -> None:
    observed = scores.observed[:, label]
    truths, probabilities = scores.positives[observed, label], scores.probabilities[observed, label]
    axes.set_title(style.plain(scores.label_names[label], 15), loc="left", fontsize=8.5, fontweight="bold", pad=3)
    if not truths.any():
        axes.text(0.5, 0.5, "no positives", ha="center", va="center", color=SOFT)
        return
    for f1 in (0.2, 0.4, 0.6, 0.8):
        recalls = np.linspace(f1 / (2 - f1), 1, 40)  # the first is where precision is 1
        axes.plot(recalls, f1 * recalls / (2 * recalls - f1), color=LINE, linewidth=0.7)
    precisions, recalls = _precision_recall_curve(truths, probabilities)
    axes.plot(recalls, precisions, color=BLUE, linewidth=1.4)
    given = predicted[observed]
    hits = float((given & truths).sum())
    if given.any():
        axes.plot(hits / truths.sum(), hits / given.sum(), "o", color=VERMILLION, markersize=6, markeredgecolor="white")
    axes.set_title(f"{2 * hits / (given.sum() + truths.sum()):.2f}", loc="right", fontsize=8.5, color=VERMILLION, pad=3)


def _precision_recall_curve(truths: Array, probabilities: Array) -> tuple[Array, Array]:
    """Return precision and recall at each distinct probability, from the highest down."""
    order = np.argsort(-probabilities, kind="stable")
    last_of_ties = np.flatnonzero(np.diff(probabilities[order], append=-1.0))  # -1: the last score always ends a run
    hits = np.cumsum(truths[order])[last_of_ties]
    return hits / (last_of_ties + 1), hits / truths.sum()


def _calibration(panels: tuple["Axes", "Axes"], scores: LabelledScores, look: tuple[str, str, str]) -> None:
    color, marker, label = look
    # Yes or no, also for soft labels: Wilson's interval needs whole hits.
    stated, true = scores.probabilities[scores.observed], scores.positives[scores.observed]
    places = np.minimum((stated * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(places, minlength=_BINS)
    used = counts > 0
    means = np.bincount(places, stated, minlength=_BINS)[used] / counts[used]
    hits = np.bincount(places, true, minlength=_BINS)[used]
    rates = hits / counts[used]
    low, high = _wilson(hits, counts[used])
    frequency, histogram = panels
    frequency.vlines(means, low, high, color=color, linewidth=1.2, alpha=0.6)
    frequency.plot(means, rates, color=color, marker=marker, markersize=5, linewidth=1.4, label=label)
    histogram.stairs(counts, np.linspace(0, 1, _BINS + 1), color=color, linewidth=1.4, baseline=None)


def _wilson(hits: Array, counts: Array) -> tuple[Array, Array]:
    """Return Wilson's 95 % interval of the fraction of hits in each of `counts`."""
    from scipy.stats import binomtest  # slow to import

    pairs = zip(hits.tolist(), counts.tolist(), strict=True)
    intervals = [binomtest(int(hit), int(count)).proportion_ci(method="wilson") for hit, count in pairs]
    return np.array([interval.low for interval in intervals]), np.array([interval.high for interval in intervals])


def _heat_map(axes: "Axes", names: Sequence[str], fractions: Array) -> None:
    from matplotlib.colors import PowerNorm  # equal steps of colour for 1, 4, 16, 64 %

    axes.imshow(fractions, cmap="Blues", norm=PowerNorm(0.5, 0, 1), aspect="auto", interpolation="none")
    for row, column in np.argwhere(fractions >= 0.05):
        fraction = fractions[row, column]
        axes.text(
            column,
            row,
            f"{100 * fraction:.0f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if fraction > 0.35 else INK,  # readable on dark blue
        )
    axes.axvline(len(names) - 0.5, color="white", linewidth=4)
    axes.set_xticks(range(len(names) + 1), [*names, "no label"], rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="predicted, but not a label of the example", ylabel="missed label")
    style.note(axes, "% of the missed examples of a row; below 5 % without a number")


def _miss_bars(axes: "Axes", misses: Array, positives: Array) -> None:
    rows = np.arange(len(misses))
    axes.barh(rows, misses, color=SOFT, height=0.7)
    axes.set_xscale("symlog", linthresh=1)  # a log axis has no 0
    axes.set(
        ylim=(len(misses) - 0.5, -0.5), yticks=[], xlabel="missed (log scale)", xlim=(0, max(10.0, misses.max() * 6))
    )
    axes.xaxis.set_major_formatter("{x:,.0f}")
    for row, count in enumerate(misses.tolist()):
        text = f"{count:,.0f}" if positives[row] else "no positives"
        axes.text(count * 1.15 + 0.1, row, text, va="center", fontsize=7.5, color=INK if positives[row] else SOFT)
    axes.grid(visible=False)
