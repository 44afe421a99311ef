"""Settings that are tried before the sampler's own: what is shipped, what did well before, or a whole grid."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna

from trainer.core.errors import SettingsError
from tuning.space.space import Space
from tuning.study.trials import Attribute

__all__ = ["enqueue_known", "read_grid"]

_ALIKE = ("model", "model_revision", "dataset")


def enqueue_known(
    study: optuna.Study,
    space: Space,
    losses: Sequence[str],
    presets: Mapping[str, Mapping[str, Any]],
    earlier: Sequence[Mapping[str, Any]],
) -> None:
    """Queue what is known to be good; what lies outside the space is brought to its edge.

    First the settings that the search starts from, once per loss, then shipped ones for the same model and data, then
    those of earlier runs.
    """
    for source, values in _known(space, losses, presets, earlier):
        params = space.project(values)
        if params:
            study.enqueue_trial(params, user_attrs={Attribute.WARM_START: source}, skip_if_exists=True)


def read_grid(space: Space, points: int, trials: int) -> list[dict[str, Any]]:
    """Every point of a grid with so many values per range. Raises SettingsError when there are more than `trials`."""
    grid = list(itertools.islice(space.grid(points), trials + 1))  # a whole one may have millions
    if len(grid) > trials:
        raise SettingsError(
            f"trials must cover the grid, but got {trials=} for more points than that with grid_points={points}. "
            "Raise trials, or vary fewer settings in a space of your own."
        )
    return grid


def _known(
    space: Space,
    losses: Sequence[str],
    presets: Mapping[str, Mapping[str, Any]],
    earlier: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[str, dict[str, Any]]]:
    for loss in losses:
        yield "the settings it starts from", {**space.base, "loss": loss}
    for name, preset in presets.items():
        alike = all(preset.get(key, "") == space.base[key] for key in _ALIKE)
        if alike and preset.get("loss", space.base["loss"]) in losses:
            yield f"preset {name}", {**space.base, **preset}
    for run in earlier:
        values = {name: _typed(text, space.base[name]) for name, text in run.items() if name in space.base}
        if values.get("loss") in losses:
            yield "an earlier run", {**space.base, **values}


def _typed(text: str, like: object) -> object:
    """The value that a logged parameter stood for, by the type of the same setting here."""
    if isinstance(like, bool):
        return text == "true"
    if isinstance(like, int | float):
        return type(like)(float(text))
    return text
