"""Figures of a study as HTML, plotted by Optuna with Plotly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna

from tuning.reporting.figure_specs import FigureSpec, figure_specs

__all__ = ["CAPTIONS", "Figure", "plot_figures"]

CAPTIONS: Mapping[str, str] = {
    "optimization_history": "Score of every complete trial, and the best so far",
    "param_importances": "Importance of each parameter for being among the best trials",
    "slice": "Score over each parameter alone; darker trials are later",
    "contour": "Score over the two most important parameters; interpolated between the trials",
    "parallel_coordinate": "Each complete trial as a line through its parameters; None: the trial does not have it",
    "intermediate_values": "Scores that each trial reported during its training; short lines were pruned",
    "timeline": "When each trial ran, and how it ended",
    "pareto_front": "The two objectives against each other; no trial beats a best one in both",
}
"""Optuna's name of each figure to its caption."""

_HEIGHT, _MARGIN = 460, {"t": 30, "b": 50, "l": 60, "r": 20}
_CONFIG = {"displaylogo": False, "responsive": True, "showSendToCloud": False}  # Plotly shows its upload by default


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure as HTML that needs plotly.js on its page."""

    name: str
    caption: str
    html: str


def plot_figures(study: optuna.Study, objectives: Sequence[str]) -> tuple[list[Figure], dict[str, str]]:
    """Return the figures of a study, and name to reason for those that it cannot have.

    objectives: their names, such as ("dev macro F1",). A study with two has the Pareto front too, and its other figures
    show the first. Raises ValueError unless there is a name for each.
    """
    specs = figure_specs(study, objectives)
    figures = [_plot(spec) for spec in specs if not spec.unavailable_because]
    return figures, {spec.name: spec.unavailable_because for spec in specs if spec.unavailable_because}


def _plot(spec: FigureSpec) -> Figure:
    import optuna.visualization as plots

    figure = getattr(plots, f"plot_{spec.name}")(spec.study, **spec.options)
    figure.update_layout(title=None, template="plotly_white", height=_HEIGHT, margin=_MARGIN)
    figure.update_xaxes(exponentformat="power")  # the default spells a learning rate of 0.0001 as 100μ
    figure.update_yaxes(exponentformat="power")
    html = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f"figure-{spec.name}",
        config=_CONFIG,
    )
    return Figure(name=spec.name, caption=CAPTIONS[spec.name], html=html)
