"""The figures of a comparison, each one PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.reporting.figures import style
from trainer.reporting.figures.style import AMBER, BLUE, GREEN, INK, LINE, SOFT, VERMILLION
from trainer.reporting.report import DASH
from tuning.comparison.report.content import ComparisonReport
from tuning.comparison.report.loading import OWN
from tuning.comparison.report.narrative import METRIC_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CAPTIONS", "drawings"]

_COLORS = (BLUE, VERMILLION, GREEN, AMBER, "#CC79A7", "#56B4E9", INK, SOFT)
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
_MOST_LABELS, _MOST_PAIRS, _MOST_LINES = 100, 60, 16
_LEVEL = 0.05
_SHOWN_FRACTION = 0.95  # of the differences have a colour of their own: one rare label would make all others pale

CAPTIONS: Mapping[str, str] = {
    "pairs.png": "Differences between the configurations on test with 95 % intervals; the band is the range of "
    "differences below the minimum effect",
    "label_differences.png": "Difference in F1 of each label from the baseline, labels with the most positives first; "
    "bold: corrected p below 0.05",
    "threshold_sweep.png": "Scores at one threshold for all labels, mean over seeds: a shared threshold without "
    "calibration favours some losses, which is no property of their ranking of examples",
    "score_over_time.png": "Macro F1 on dev during training, and the score on test against the seconds of training",
    "grad_norms.png": "Norm of the gradients before clipping, mean over seeds",
}
"""File to caption, in the order of the report."""


def drawings(report: ComparisonReport) -> dict[str, Any]:
    """Return file name to a function that draws the figure to a path, for the figures that this comparison has."""
    compared = report.comparison
    found: dict[str, Any] = {}
    if compared is not None:
        if report.pairs:
            found["pairs.png"] = lambda path: _pairs(path, report)
        if report.baseline in report.configurations and len(report.configurations) > 1:
            found["label_differences.png"] = lambda path: _label_differences(path, report)
        found["threshold_sweep.png"] = lambda path: _sweep(path, report)
    if any(curve.scores for curve in report.curves.values()):
        found["score_over_time.png"] = lambda path: _score_over_time(path, report)
    if any(curve.grad_norms for curve in report.curves.values()):
        found["grad_norms.png"] = lambda path: _grad_norms(path, report)
    return found


def _pairs(path: Path, report: ComparisonReport) -> Path:
    pairs = report.pairs[:_MOST_PAIRS]
    metric = METRIC_NAMES[report.plan.metric]
    with style.sheet(path, (9.0, 0.34 * len(pairs) + 1.7), f"Differences in {metric}") as figure:
        axes = figure.subplots()
        style.label_rows(axes, ["" for _ in pairs])
        # Two names, each shortened alone.
        axes.set_yticklabels([f"{style.plain(pair.first)} - {style.plain(pair.second)}" for pair in pairs])
        axes.axvspan(-report.plan.min_effect, report.plan.min_effect, color=LINE, alpha=0.35, linewidth=0)
        axes.axvline(0.0, color=INK, linewidth=1.0)
        looks = {"better": GREEN, "worse": VERMILLION, "equivalent": BLUE, "not_shown": SOFT}
        for row, pair in enumerate(pairs):
            look: dict[str, Any] = {"color": looks[pair.verdict], "alpha": 1.0 if pair.planned else 0.6}
            axes.plot([pair.low, pair.high], [row, row], linewidth=2.0, solid_capstyle="butt", **look)
            filled = "full" if pair.planned else "none"
            axes.plot([pair.difference], [row], marker="o", markersize=6.5, fillstyle=filled, **look)
            words = pair.verdict.replace("_", " ") + ("" if pair.planned else ", exploratory")
            axes.text(1.01, row, words, transform=axes.get_yaxis_transform(), va="center", color=INK, fontsize=8)
        axes.set_xlabel(f"difference in {metric} (95 % interval); grey band: below the minimum effect")
        more = (
            f"; {_MOST_PAIRS} of {len(report.pairs)} pairs, planned ones first"
            if len(report.pairs) > _MOST_PAIRS
            else ""
        )
        style.note(axes, f"filled: planned, hollow: exploratory{more}")
    return path


def _label_differences(path: Path, report: ComparisonReport) -> Path:
    names = [name for name in report.configurations if name != report.baseline]
    others = names[:_MOST_LINES]
    support = np.array(report.data["support"])
    title = f"Difference in F1 from {style.plain(report.baseline)}"
    shown, title = style.select(support, _MOST_LABELS, title, "positives")
    title += _choice(len(names), "those that rank first on dev")
    order = sorted(shown, key=lambda label: -support[label])
    gaps, marked = _gaps(report, others)
    values = gaps[order]
    sizes = np.abs(values[np.isfinite(values)])
    limit = max(float(np.quantile(sizes, _SHOWN_FRACTION)) if len(sizes) else 0.0, 0.02)
    size = (2.6 + 1.15 * len(others) + 0.9, 0.25 * len(order) + 1.9)
    with style.sheet(path, (max(size[0], 5.5), size[1]), title) as figure:
        axes = figure.subplots()
        image = axes.imshow(values, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
        rows = [f"{style.plain(report.data['labels'][label])} ({support[label]:,})" for label in order]
        axes.set_yticks(range(len(order)), rows)
        axes.set_xticks(range(len(others)), [style.plain(name, 18) for name in others])
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.grid(visible=False)
        for row, label in enumerate(order):
            for column in range(len(others)):
                _cell(axes, row, column, gaps[label, column], marked[label, column], limit)
        figure.colorbar(image, ax=axes, shrink=0.6, extend="both", label="difference in F1 (in brackets: positives)")
    return path


def _gaps(report: ComparisonReport, others: Sequence[str]) -> tuple[Any, Any]:
    """Return the difference of each label from the baseline, and whether its corrected p is small, both (k, others)."""
    shape = (len(report.data["labels"]), len(others))
    gaps, marked = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    for column, name in enumerate(others):
        pair = report.pair(name, report.baseline)
        for label, gap in enumerate(pair.per_label if pair else ()):
            if pair is not None and gap is not None:
                gaps[label, column] = gap.difference if pair.first == name else -gap.difference
                marked[label, column] = gap.p_corrected < _LEVEL
    return gaps, marked


def _cell(axes: "Axes", row: int, column: int, gap: float, is_marked: bool, limit: float) -> None:
    text = DASH if np.isnan(gap) else f"{gap:+.3f}"
    color = "white" if abs(gap) > 0.65 * limit else INK
    weight = "bold" if is_marked else "normal"
    axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color, fontweight=weight)


def _sweep(path: Path, report: ComparisonReport) -> Path:
    with style.sheet(path, (9.5, 7.0), "Scores at one threshold for all labels" + _first(report)) as figure:
        grid = figure.subplots(2, 3, sharex=True, sharey="col")
        for row, calibrated in enumerate((False, True)):
            for column, metric in enumerate(("macro_f1", "micro_f1", "weighted_f1")):
                axes = grid[row][column]
                for name, look in _looks(report).items():
                    points = [
                        one for one in report.sweep if one["configuration"] == name and one["calibrated"] == calibrated
                    ]
                    axes.plot(
                        [one["threshold"] for one in points], [one[metric] for one in points], markersize=3.5, **look
                    )
                if row == 0:
                    axes.set_title(METRIC_NAMES[metric], loc="left")
                if column == 0:
                    axes.set_ylabel("calibrated" if calibrated else "without calibration")
                if row == 1:
                    axes.set_xlabel("threshold")
        _legend(figure, _looks(report))
    return path


def _score_over_time(path: Path, report: ComparisonReport) -> Path:
    looks = _looks(report)
    with style.sheet(path, (9.5, 4.4), "Score against time" + _first(report)) as figure:
        curves, ends = figure.subplots(1, 2)
        for run in report.runs:
            curve = report.curves.get(run.run_id)
            if curve is not None and curve.scores and run.configuration in looks:
                look = looks[run.configuration] | {"label": "", "alpha": 0.75, "linewidth": 1.2}
                curves.plot(np.array(curve.seconds) / 60, curve.scores, markersize=4, **look)
        curves.set(xlabel="minutes of training", ylabel="macro F1 on dev")
        curves.set_xlim(left=0)
        style.note(curves, "one line for each run")
        for name, look in looks.items():
            seconds = [run.cost.seconds for run in report.runs if run.configuration == name and run.state == "finished"]
            row = report.score(name, OWN, report.plan.metric)
            known = [value for value in seconds if value is not None]
            if row is None or not known:
                continue
            middle = float(np.mean(known)) / 60
            whisker = [[max(row.value - row.low, 0.0)], [max(row.high - row.value, 0.0)]]
            ends.errorbar([middle], [row.value], yerr=whisker, markersize=7, **(look | {"linestyle": "none"}))
        ends.set(xlabel="minutes of a training, mean", ylabel=f"{METRIC_NAMES[report.plan.metric]} on {_role(report)}")
        style.note(ends, "whisker: 95 % interval")
        if not ends.has_data():
            ends.text(0.5, 0.5, "no run counted its seconds", transform=ends.transAxes, ha="center", color=SOFT)
        _legend(figure, looks)
    return path


def _grad_norms(path: Path, report: ComparisonReport) -> Path:
    from matplotlib.ticker import NullFormatter

    with style.sheet(path, (8.5, 4.0), "Gradient norm before clipping" + _first(report)) as figure:
        axes = figure.subplots()
        for name, look in _looks(report).items():
            points: dict[int, list[float]] = {}
            for run in report.runs:
                curve = report.curves.get(run.run_id)
                if run.configuration == name and curve is not None:
                    for step, norm in zip(curve.steps, curve.grad_norms, strict=True):
                        points.setdefault(step, []).append(norm)
            steps = sorted(points)
            axes.plot(steps, [float(np.mean(points[step])) for step in steps], **(look | {"marker": ""}))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        low, high = axes.get_ylim()
        axes.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else NullFormatter())
        axes.set(xlabel="optimizer step", ylabel="gradient norm (log scale)")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        _legend(figure, _looks(report))
    return path


def _looks(report: ComparisonReport) -> dict[str, dict[str, Any]]:
    """Return the scored configurations with their colour and marker, which are the same in all figures."""
    names = [name for name in report.plan.configurations if name in report.configurations]
    return {
        name: {
            "color": _COLORS[place % len(_COLORS)],
            "marker": _MARKS[place % len(_MARKS)],
            "linestyle": "-" if place < len(_COLORS) else "--",
            "linewidth": 1.5,
            "label": style.plain(name),
        }
        for place, name in enumerate(names[:_MOST_LINES])
    }


def _first(report: ComparisonReport) -> str:
    """Return what a title says of the configurations that `_looks` leaves out."""
    return _choice(len(report.configurations), "the first of the plan")


def _choice(count: int, which: str) -> str:
    return f"\n{_MOST_LINES} of {count} configurations, {which}" if count > _MOST_LINES else ""


def _role(report: ComparisonReport) -> str:
    return str(report.data["role"])


def _legend(figure: Any, looks: Mapping[str, Mapping[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **look) for look in looks.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5) or 1)
