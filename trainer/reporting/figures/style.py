"""What every figure shares: paper, palette, type and the treatment of label names."""

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    "sheet",
]

DPI = 144
BLUE, VERMILLION, GREEN, AMBER = "#0072B2", "#D55E00", "#009E73", "#E69F00"
INK, SOFT, LINE, PALE = "#1f2328", "#6b7280", "#c3c8d0", "#e5e7eb"
_LONGEST_NAME = 24

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "text.usetex": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titley": 1.0,  # where titles stand anyway; else each is placed by measuring all ticks of its axes
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
    """Lend a titled figure of `size` (width, height) inches and write it to `path` as PNG afterwards.

    computed: let matplotlib find the margins; otherwise the caller sets them.
    The object API and a private style keep the caller's matplotlib, notebook or backend untouched.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Figure(
            figsize=size, dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.09) if computed else None
        )
        top = {} if computed else {"y": 1 - 0.09 / size[1]}
        figure.suptitle(plain(title, longest=200), x=0.01, ha="left", fontsize=13, fontweight="bold", **top)
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        # Figure.savefig would draw a figure with a computed layout twice, the first time for the layout alone.
        canvas: Any = FigureCanvasAgg(figure)  # Any: matplotlib leaves its methods untyped
        canvas.print_png(path, metadata={"Software": None})


def plain(name: str, longest: int = _LONGEST_NAME) -> str:
    """The name as one line that matplotlib prints letter by letter: no formula, no control character, not too long."""
    line = "".join(" " if unicodedata.category(letter).startswith("C") else letter for letter in name)
    line = line if len(line) <= longest else line[: longest - 1] + "…"
    return line.replace("$", r"\$")


def note(axes: "Axes", text: str) -> None:
    """Say under the title, in the left corner above the axes, what the reader should know to read the picture."""
    axes.set_title(text, loc="left", color=SOFT, fontsize=9)


def label_rows(axes: "Axes", names: Sequence[str]) -> None:
    """Turn the y axis into one row per label, the first on top."""
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", linewidth=0.5)
