"""What Optuna draws of a study: as PNG files, and as figures that one can move in.

Optuna draws for a person who chooses a figure and looks at it. Here every figure is asked for, so what a small study
cannot show is told beforehand, in words, and left out.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from trainer.core.artifacts import FIGURES
from trainer.reporting.report import Picture
from tuning.reporting.figure_specs import Drawing, plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CAPTIONS", "Drawn", "Interactive", "draw", "interactive"]

CAPTIONS: Mapping[str, str] = {
    "optimization_history": "Score of every complete trial, and the best so far",
    "param_importances": "How much each parameter had to do with being among the best trials",
    "slice": "Score over each parameter alone; darker trials are later",
    "contour": "Score over the two parameters that matter most; between the trials it is interpolated",
    "parallel_coordinate": "Each complete trial as a line through its parameters; None: it does not have this one",
    "intermediate_values": "What each trial reported while it trained; short lines were pruned",
    "timeline": "When each trial ran, and how it ended",
    "pareto_front": "The two objectives against each other; no trial beats a best one in both",
}
"""Name of each figure, Optuna's own, to what it shows."""

_DPI = 144
_MAX_LEGEND = 12
_HEIGHT, _MARGIN = 460, {"t": 30, "b": 50, "l": 60, "r": 20}
_CONFIG = {"displaylogo": False, "responsive": True, "showSendToCloud": False}  # shown by default: it uploads


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """PNG files, and why there are not more."""

    pictures: tuple[Picture, ...]
    missing: Mapping[str, str]
    """Name of a figure to the reason why this study does not have it."""


@dataclass(frozen=True, kw_only=True)
class Interactive:
    """A figure as HTML that needs plotly.js on its page."""

    name: str
    caption: str
    html: str


def draw(study: optuna.Study, folder: Path, names: Sequence[str]) -> Drawn:
    """Write the figures of the study as `folder/figures/NAME.png`.

    names: of the objectives, such as ("dev macro F1",). A study with two has the Pareto front too, and its other
    figures show the first. pyplot's backend, style and open figures are afterwards what they were.
    Raises ValueError unless there is a name for each objective.
    """
    drawings = plan(study, [name.replace("$", r"\$") for name in names])  # to matplotlib it begins a formula
    with _private_pyplot():
        pictures = tuple(_picture(folder / FIGURES, drawing) for drawing in drawings if not drawing.obstacle)
    return Drawn(pictures=pictures, missing=_missing(drawings))


def interactive(study: optuna.Study, names: Sequence[str]) -> tuple[list[Interactive], dict[str, str]]:
    """Return the figures as HTML, and name to reason for those that the study does not have.

    names, errors: as for `draw`.
    """
    drawings = plan(study, names)
    return [_interactive(drawing) for drawing in drawings if not drawing.obstacle], _missing(drawings)


def _missing(drawings: Sequence[Drawing]) -> dict[str, str]:
    return {drawing.name: drawing.obstacle for drawing in drawings if drawing.obstacle}


@contextmanager
def _private_pyplot() -> Iterator[None]:
    """Lend pyplot, which Optuna draws with, without a window and without a trace."""
    import matplotlib as mpl
    from matplotlib import pyplot
    from optuna.exceptions import ExperimentalWarning

    before = pyplot.get_backend()
    with warnings.catch_warnings(), mpl.rc_context():
        warnings.simplefilter("ignore", ExperimentalWarning)  # Optuna calls every figure of matplotlib's that
        pyplot.switch_backend("agg")
        try:
            yield
        finally:
            with suppress(ImportError):  # a backend that cannot start here has no figure to show either
                pyplot.switch_backend(before)


def _picture(folder: Path, drawing: Drawing) -> Picture:
    import matplotlib as mpl
    import numpy as np
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    with mpl.rc_context():  # Optuna sets a style and leaves it
        mpl.rcdefaults()
        mpl.rcParams["figure.figsize"] = _size(drawing)
        drawn = getattr(plots, f"plot_{drawing.name}")(drawing.study, **drawing.options)
        axes = np.ravel(drawn)[0]
        _tidy(drawing.name, axes)
        path = folder / f"{drawing.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        axes.figure.savefig(path, format="png", dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
        pyplot.close(axes.figure)
    return Picture(path=path, caption=CAPTIONS[drawing.name])


def _size(drawing: Drawing) -> tuple[float, float]:
    if drawing.name == "parallel_coordinate":
        return max(8.0, 1.7 * len(drawing.options["params"])), 5.0
    return (5.4, 4.0) if drawing.name == "slice" else (8.0, 5.0)  # slice: the width of two parameters


def _tidy(name: str, axes: "Axes") -> None:
    """Take away a legend that says nothing, or has more entries than there are colours; lift numbers out of lines."""
    from matplotlib.patheffects import withStroke

    legend = axes.get_legend()
    if legend is not None and not 1 < len(legend.get_texts()) <= _MAX_LEGEND:
        legend.remove()
        for place, line in enumerate(axes.lines):
            line.set_color(f"C{place}")
    if name == "parallel_coordinate":
        for label in [label for one in axes.figure.axes for label in one.get_yticklabels(which="both")]:
            label.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _interactive(drawing: Drawing) -> Interactive:
    import optuna.visualization as plots

    figure = getattr(plots, f"plot_{drawing.name}")(drawing.study, **drawing.options)
    figure.update_layout(title=None, template="plotly_white", height=_HEIGHT, margin=_MARGIN)
    figure.update_xaxes(exponentformat="power")  # otherwise a learning rate of 0.0001 is called 100μ
    figure.update_yaxes(exponentformat="power")
    html = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f"figure-{drawing.name}",
        config=_CONFIG,
    )
    return Interactive(name=drawing.name, caption=CAPTIONS[drawing.name], html=html)
