"""Settings that a search tries before its sampler suggests any: the starting ones, presets, and earlier runs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna

from trainer.core.presets import upgrade
from tuning.space.space import Space
from tuning.study.trials import Attribute

__all__ = ["enqueue_known"]

_SAME = ("model", "model_revision", "dataset")
"""Settings that a preset must share with the search."""


def enqueue_known(
    study: optuna.Study,
    space: Space,
    losses: Sequence[str],
    presets: Mapping[str, Mapping[str, Any]],
    earlier: Sequence[Mapping[str, Any]],
) -> None:
    """Queue the starting settings once per loss, the presets for the same model and data, and earlier runs, in order.

    A value outside the space becomes the nearest one inside. earlier: parameters of runs, as text.
    """
    for source, values in _known(space, losses, presets, earlier):
        params = space.project(values)
        if params:
            # Twice: a preset may equal the start, and a killed command has queued some already.
            study.enqueue_trial(params, user_attrs={Attribute.WARM_START: source}, skip_if_exists=True)


def _known(
    space: Space,
    losses: Sequence[str],
    presets: Mapping[str, Mapping[str, Any]],
    earlier: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[str, dict[str, Any]]]:
    for loss in losses:
        yield "the settings it starts from", {**space.base, "loss": loss}
    for name, preset in presets.items():
        is_same = all(preset.get(key, "") == space.base[key] for key in _SAME)
        if is_same and preset.get("loss", space.base["loss"]) in losses:
            yield f"preset {name}", {**space.base, **preset}
    for run in earlier:
        values = {name: _typed(text, space.base[name]) for name, text in upgrade(run).items() if name in space.base}
        if values.get("loss") in losses:
            yield "an earlier run", {**space.base, **values}


def _typed(text: str, like: object) -> object:
    """Return the value of a logged parameter, with the type of the same setting in the space."""
    if isinstance(like, bool):
        return text == "true"
    if isinstance(like, int | float):
        return type(like)(float(text))  # by float: int() refuses `1e4`
    return text
