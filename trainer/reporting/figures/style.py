"""The style of all figures: paper, colours, type, label names, and the choice among many labels."""

import functools
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.evaluation.arrays import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "AMBER",
    "BLUE",
    "DPI",
    "GREEN",
    "INK",
    "LINE",
    "PALE",
    "SOFT",
    "VERMILLION",
    "label_rows",
    "note",
    "plain",
    "select",
    "sheet",
]

DPI = 144
BLUE, VERMILLION, GREEN, AMBER = "#0072B2", "#D55E00", "#009E73", "#E69F00"
INK, SOFT, LINE, PALE = "#1f2328", "#6b7280", "#c3c8d0", "#e5e7eb"
_LONGEST_NAME = 24
# For letters that DejaVu Sans lacks, on Linux, macOS and Windows.
_FALLBACK_FONTS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Noto Sans", "Noto Emoji"),
    *("PingFang SC", "Hiragino Sans", "Arial Unicode MS", "Microsoft YaHei", "Malgun Gothic"),
)

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    "text.usetex": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titley": 1.0,  # the default place, which matplotlib otherwise finds by measuring all ticks of the axes
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def sheet(path: Path, size: tuple[float, float], title: str, *, computed: bool = True) -> "Iterator[Figure]":
    """Yield a titled figure of `size` (width, height) inches and write it to `path` as PNG afterwards.

    computed: let matplotlib find the margins; otherwise the caller sets them.
    The object API and a private style keep the caller's matplotlib, notebook or backend untouched.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with mpl.rc_context():
        mpl.rcdefaults()  # without the user's matplotlibrc
        mpl.rcParams.update(_STYLE | {"font.family": _fonts()})
        figure = Figure(
            figsize=size, dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.09) if computed else None
        )
        top = {} if computed else {"y": 1 - 0.09 / size[1]}
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", **top)
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        # Figure.savefig would draw a figure with a computed layout twice, the first time for the layout alone.
        canvas: Any = FigureCanvasAgg(figure)  # Any: matplotlib leaves its methods untyped
        canvas.print_png(path, metadata={"Software": None})  # no version: equal input, equal bytes


@functools.cache
def _fonts() -> list[str]:
    """Return the fonts of the figures that are installed; matplotlib logs each one that is missing."""
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _FALLBACK_FONTS if name in installed)]


@functools.cache
def _has_glyph(letter: str) -> bool:
    from matplotlib import font_manager

    files = (font_manager.findfont(name) for name in _fonts())
    return any(font_manager.get_font(file).get_char_index(ord(letter)) for file in files)


def plain(name: str, longest: int = _LONGEST_NAME) -> str:
    """Return the name as one line that matplotlib prints literally: no formula, no control character, not too long.

    A letter that no font has is escaped: boxes in its place would make all such names equal.
    """
    line = "".join(_printable(letter) for letter in name[: longest + 1])
    line = line if len(line) <= longest else line[: longest - 1] + "…"
    return line.replace("$", r"\$")


def _printable(letter: str) -> str:
    if unicodedata.category(letter).startswith("C"):
        return " "
    return letter if _has_glyph(letter) else f"\\u{ord(letter):04x}"


def note(axes: "Axes", text: str) -> None:
    """Write a hint for the reader under the title, in the left corner above the axes."""
    axes.set_title(text, loc="left", color=SOFT, fontsize=9)


def select(weights: Array, most: int, title: str, meaning: str) -> tuple[list[int], str]:
    """Return the `most` labels with the largest weights (k,), in their order, and the title, which names the choice."""
    if len(weights) <= most:
        return list(range(len(weights))), title
    shown = sorted(np.argsort(-np.asarray(weights, float), kind="stable")[:most].tolist())
    return shown, f"{title}\n{most} of {len(weights):,} labels, those with the most {meaning}"


def label_rows(axes: "Axes", names: Sequence[str]) -> None:
    """Turn the y axis into one row per label, the first on top."""
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", linewidth=0.5)
