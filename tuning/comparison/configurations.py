"""Reads the configurations of a comparison: from the setting `configs`, or from the file of a plan.

A plan is a YAML file. Each configuration has the settings in which it differs from those that all share:

    configurations:
      bce: {loss: bce}
      asl: {loss: asl, gamma_pos: 1}
    baseline: bce
    planned: [[asl, bce]]

`baseline: {loss: bce}` with `changes:` in place of `configurations` makes one configuration of each change alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.core.errors import SettingsError, nearest, shorten
from trainer.core.input_files import show_path
from trainer.core.presets import load_yaml, upgrade
from trainer.core.settings import Scalar, quote
from trainer.model.losses.table import LOSSES, settings_of
from tuning.comparison.config import DEFAULT_CONFIGS
from tuning.comparison.results import Pair

__all__ = ["Configurations", "read_configs", "read_plan_file"]

_BASELINE = "baseline"
"""Name of the configuration that `changes` are made to."""
_KEYS = ("configurations", "baseline", "changes", "planned", "settings", "equal_steps", "seeds", "metric", "min_effect")
_OF_THE_COMMAND = ("seeds", "metric", "min_effect")
_MAX_CONFIGURATIONS = 100
_MAX_NAME_CHARACTERS = 60
_Changes = dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Configurations:
    """What is compared with what."""

    changes: Mapping[str, Mapping[str, Any]]
    """Name to the settings in which a configuration differs from those that all share; the baseline first."""
    planned: tuple[Pair, ...]
    shared: Mapping[str, Any] = field(default_factory=dict)
    """Settings that all share, of the file of a plan."""
    equal_steps: bool = True
    """Whether every configuration must train for equally many steps."""
    command: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the command, of the file of a plan."""


def read_configs(text: str) -> Configurations:
    """Return the configurations of the setting `configs`: losses, each optionally with `:` and a value of `ratio`."""
    parts = [part.strip() for part in (text or DEFAULT_CONFIGS).split(",")]
    changes: _Changes = {}
    for part in parts:
        if part in changes:
            raise SettingsError(f"`configs` must name each configuration once, got {quote(part)} twice.")
        changes[part] = _of_loss(part)
    return _configurations(changes, origin="`configs`")


def read_plan_file(path: str) -> Configurations:
    """Return the configurations of a plan in a YAML file. Raises SettingsError for unknown keys and wrong values."""
    origin = f"the plan {shorten(Path(path).name)}"
    content = load_yaml("file", path, Path())
    for key in content:
        if key not in _KEYS:
            raise SettingsError(f"`{shorten(key)}` is no part of a plan, in {show_path(path)}.{nearest(key, _KEYS)}")
    equal_steps = content.get("equal_steps", True)
    if not isinstance(equal_steps, bool):
        raise SettingsError(f"`equal_steps` must be true or false, got {quote(equal_steps)} in {origin}.")
    return _configurations(
        _with_baseline(content, origin),
        origin=origin,
        planned=content.get("planned"),
        shared=_settings("settings", content.get("settings", {}), origin),
        equal_steps=equal_steps,
        command={name: content[name] for name in _OF_THE_COMMAND if name in content},
    )


def _of_loss(part: str) -> dict[str, Any]:
    """Return the settings of a part of `configs`, such as `combined:0.7`."""
    loss, colon, number = part.partition(":")
    if loss not in LOSSES:
        raise SettingsError(f"`configs` must name {', '.join(LOSSES)}, got {quote(part)}.{nearest(loss, LOSSES)}")
    if not colon:
        return {"loss": loss}
    if "ratio" not in settings_of(loss):
        raise SettingsError(
            f"`configs` must have a number only after combined, whose `ratio` it is, got {quote(part)}."
        )
    try:
        return {"loss": loss, "ratio": float(number)}
    except ValueError:
        raise SettingsError(
            f"`configs` must have a number after the colon, the `ratio` of {loss}, got {quote(part)}."
        ) from None


def _with_baseline(content: Mapping[str, Any], origin: str) -> _Changes:
    """Return the configurations of a plan, the baseline first."""
    named, changes = _named("configurations", content, origin), _named("changes", content, origin)
    baseline = content.get("baseline")
    if bool(named) == bool(changes):
        both = "both" if named else "neither"
        raise SettingsError(f"A plan must have either `configurations` or `changes`, got {both} in {origin}.")
    if changes:
        base = _settings("baseline", {} if baseline is None else baseline, origin)
        if _BASELINE in changes:
            raise SettingsError(f"A change must not be called {_BASELINE}, in {origin}.")
        return {_BASELINE: base, **{name: {**base, **change} for name, change in changes.items()}}
    if baseline is None:
        return named
    if not isinstance(baseline, str) or baseline not in named:
        hint = nearest(str(baseline), named)
        raise SettingsError(f"`baseline` must name a configuration, got {quote(baseline)} in {origin}.{hint}")
    return {baseline: named[baseline], **named}


def _named(key: str, content: Mapping[str, Any], origin: str) -> _Changes:
    values = content.get(key) or {}
    if not isinstance(values, dict):
        raise SettingsError(f"`{key}` must have lines `name: {{setting: value}}`, got {quote(values)} in {origin}.")
    for name in values:
        if not isinstance(name, str) or name != name.strip() or not 0 < len(name) <= _MAX_NAME_CHARACTERS:
            raise SettingsError(
                f"A name in `{key}` must be text of 1 to {_MAX_NAME_CHARACTERS} characters without spaces around it, "
                f"got {quote(name)} in {origin}."
            )
    return {name: _settings(name, settings, origin) for name, settings in values.items()}


def _settings(owner: str, values: Any, origin: str) -> dict[str, Any]:
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise SettingsError(f"`{shorten(owner)}` must have lines `setting: value`, got {quote(values)} in {origin}.")
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, Scalar):
            raise SettingsError(
                f"`{shorten(owner)}` must have one value for each setting, got {quote({str(name): value})} in {origin}."
            )
    return upgrade(values)


def _configurations(
    changes: _Changes,
    *,
    origin: str,
    planned: Any = None,
    shared: Mapping[str, Any] | None = None,
    equal_steps: bool = True,
    command: Mapping[str, Any] | None = None,
) -> Configurations:
    if not 2 <= len(changes) <= _MAX_CONFIGURATIONS:
        raise SettingsError(
            f"A comparison must have 2 to {_MAX_CONFIGURATIONS} configurations, got {len(changes)} in {origin}."
        )
    return Configurations(
        changes=changes,
        planned=_against_the_first([*changes]) if planned is None else _pairs(planned, changes, origin),
        shared=shared or {},
        equal_steps=equal_steps,
        command=command or {},
    )


def _against_the_first(names: Sequence[str]) -> tuple[Pair, ...]:
    """Return each configuration against the baseline.

    All pairs would be k (k - 1) / 2 tests, whose correction costs the power to show any of them.
    """
    return tuple((name, names[0]) for name in names[1:])


def _pairs(planned: Any, names: Mapping[str, Any], origin: str) -> tuple[Pair, ...]:
    pairs: list[Pair] = []
    for pair in planned if isinstance(planned, list) and planned else [planned]:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)):
            raise SettingsError(f"`planned` must be a list of [name, name], got {quote(pair)} in {origin}.")
        first, second = pair
        for name in pair:
            if name not in names:
                raise SettingsError(
                    f"`planned` must name configurations, got {quote(name)} in {origin}.{nearest(name, names)}"
                )
        if first == second or {first, second} in [set(one) for one in pairs]:
            raise SettingsError(f"`planned` must have different pairs of two, got {quote(pair)} in {origin}.")
        pairs.append((first, second))
    return tuple(pairs)
