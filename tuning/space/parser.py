"""Reads a search space from YAML and checks it against the settings of training.

Each setting has one line: a range `{low: 0.0, high: 0.2}`, optionally with `log: true` or `step:`; a range
`{times: [0.25, 4]}` in multiples of the value that the search starts from; or `{choices: [16, 32]}`.
`when: {schedule: [linear]}` limits a line to some values of a setting before it. A setting of one loss is varied with
the losses that read it. `extends: default` adds the lines of a shipped space.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.core.errors import SettingsError, nearest, shorten
from trainer.core.presets import load_yaml, preset_names, upgrade
from trainer.core.settings import quote
from trainer.model.losses.table import LOSSES, losses_that_read
from tuning.space.space import Dimension, Space, Value

__all__ = ["SPACES", "read_space"]

SPACES = Path(__file__).parent
_KEYS = {"low": {"low", "high", "log", "step"}, "times": {"times", "log", "step"}, "choices": {"choices"}}
"""Key that every line of one kind has, to all keys that it may have besides `when`."""
_TYPES = {"log": bool, "times": list, "choices": list, "when": dict}
_COMPONENTS = ("model", "loss", "fit")
_OTHERS = ("max_length",)  # the one setting of `data` that changes neither texts nor labels
_SET_BY_THE_SEARCH = ("best_metric", "evals_per_epoch")
_MAX_STEPS = 10**9
_MAX_LISTED = 8  # of the values of one list or mapping, in a message


def read_space(
    name: str, base: Mapping[str, Any], components: Mapping[str, str], losses: Sequence[str], fixed: Sequence[str]
) -> Space:
    """Return the space with a shipped name, or in a YAML file, around the settings `base`.

    components: every setting of training to its component. losses: those to search. fixed: settings that the user has
    given, which are not varied. Raises SettingsError for settings that cannot be searched and for invalid lines.
    """
    lines = _load(name)
    for setting, line in lines.items():
        _check_setting(setting, components)
        _check_keys(setting, line)
    lines = {setting: _with_losses(setting, line) for setting, line in lines.items()}
    for setting, line in lines.items():
        _check_condition(setting, line.get("when", {}), base, lines)
    # First: others depend on it.
    dimensions = [Dimension(name="loss", choices=tuple(losses))] if len(losses) > 1 else []
    varied = [_dimension(setting, line, base) for setting, line in lines.items() if setting not in fixed]
    dimensions += [kept for one in varied if (kept := _narrowed(one, {"loss": tuple(losses)}, base, varied))]
    if not dimensions:
        raise SettingsError(f"Space {quote(name)} varies nothing for losses={','.join(losses)} that is not given.")
    conditions = {
        (other, value)
        for setting, line in lines.items()
        for other, values in line.get("when", {}).items()
        for value in _values(other, values, base)
        if setting not in fixed and other not in lines
    }
    return Space(tuple(dimensions), {**base, "loss": losses[0]}, tuple(sorted(conditions, key=str)))


def _load(name: str) -> dict[str, Any]:
    lines = upgrade(load_yaml("space", name, SPACES))
    extended = lines.pop("extends", None)
    if extended is None:
        return lines
    shipped = preset_names(SPACES)
    if extended not in shipped:
        raise SettingsError(f"`extends` of a space must be one of {', '.join(shipped)}, got {_spell(extended)}.")
    return {**_load(extended), **lines}


def _check_setting(setting: Any, components: Mapping[str, str]) -> None:
    if setting == "loss":
        raise SettingsError("A space must not have `loss`. Use losses=bce,asl.")
    searchable = sorted(
        one
        for one, component in components.items()
        if (component in _COMPONENTS or one in _OTHERS) and one not in _SET_BY_THE_SEARCH
    )
    if setting in components and setting not in searchable:
        raise SettingsError(
            f"A space cannot vary `{setting}`: only settings of the training itself need trials, and evaluation "
            "settings are chosen on dev after each training."
        )
    if setting not in searchable:
        hint = nearest(setting, searchable) if isinstance(setting, str) else ""
        raise SettingsError(f"A space cannot vary `{_spell(setting)}`, which is no setting of training.{hint}")


def _check_keys(setting: str, line: Any) -> None:
    kinds = [kind for kind in _KEYS if isinstance(line, dict) and kind in line]
    allowed = _KEYS[kinds[0]] | {"when"} if len(kinds) == 1 else set()
    if not allowed or not all(
        key in allowed and isinstance(value, _TYPES.get(key, object)) for key, value in line.items()
    ):
        raise SettingsError(
            f"`{setting}` of a space must be {{low:, high:}} or {{times: [from, to]}}, optionally with log: true or "
            f"step:, or {{choices: [...]}}, each optionally with when:, got {_spell(line)}."
        )


def _with_losses(setting: str, line: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the line with the condition that the loss reads the setting, unless it has one on losses."""
    when = line.get("when", {})
    losses = losses_that_read(setting)
    if not losses or losses == LOSSES or "loss" in when:
        return line
    return {**line, "when": {"loss": list(losses), **when}}


def _check_condition(
    setting: str, when: Mapping[Any, Any], base: Mapping[str, Any], lines: Mapping[str, Mapping[str, Any]]
) -> None:
    label = f"`when` of {setting} in a space"
    for other, values in when.items():
        if other not in base:
            hint = nearest(other, sorted(base)) if isinstance(other, str) else ""
            raise SettingsError(f"{label} must name settings of training, got {_spell(other)}.{hint}")
        if not isinstance(values, list) or not values or not all(isinstance(one, Value) for one in values):
            raise SettingsError(f"{label} must list values, such as {{loss: [asl]}}, got {_spell(when)}.")
    order = list(lines)
    for other in [other for other in when if other in lines]:
        if order.index(other) > order.index(setting):
            raise SettingsError(f"{label} must name settings above it, got {other}. Move {setting} below {other}.")
        if "choices" not in lines[other]:
            raise SettingsError(f"{label} must name settings with choices, got {other}, which has a range.")
        choices = _values(other, lines[other]["choices"], base)
        unknown = [value for value in _values(other, when[other], base) if value not in choices]
        if unknown:
            raise SettingsError(f"{label} must list choices of {other}, got {_spell(unknown)}.")
        required = lines[other].get("when", {})
        if not all(set(when.get(name, [None])) <= set(allowed) for name, allowed in required.items()):
            raise SettingsError(
                f"{label} must repeat the condition of {other}, {_spell(required)}, got {_spell(when)}."
            )


def _dimension(setting: str, line: Mapping[str, Any], base: Mapping[str, Any]) -> Dimension:
    when = {other: tuple(_values(other, values, base)) for other, values in line.get("when", {}).items()}
    if "choices" in line:
        return Dimension(name=setting, choices=_choices(setting, line["choices"], base), when=when)
    if isinstance(base[setting], bool | str):
        raise SettingsError(f"`{setting}` of a space must have choices, got a range: {_spell(line)}.")
    is_integer = isinstance(base[setting], int)
    low, high = _ends(setting, line, base[setting], is_integer=is_integer)
    if low >= high:
        raise SettingsError(f"The range of {setting} in a space must rise, got {_spell(line)}.")
    if line.get("log") and (low <= 0 or "step" in line):
        raise SettingsError(f"The logarithmic range of {setting} must be above 0, without a step, got {_spell(line)}.")
    step = _step(setting, line, high - low, is_integer=is_integer) if "step" in line else None
    return Dimension(
        name=setting, is_integer=is_integer, low=low, high=high, log=bool(line.get("log")), step=step, when=when
    )


def _choices(setting: str, given: Sequence[Any], base: Mapping[str, Any]) -> tuple[Value, ...]:
    are_scalars = bool(given) and all(isinstance(one, Value) for one in given)
    values = _values(setting, given, base) if are_scalars else []
    if not values or len(set(values)) < len(values):
        raise SettingsError(f"Choices of {setting} in a space must be different values, got {_spell(given)}.")
    return tuple(values)


def _values(setting: str, given: Sequence[Any], base: Mapping[str, Any]) -> list[Any]:
    """Return values of a setting as numbers where it has numbers, for YAML reads `1e-4` as text, and as named now."""
    if isinstance(base[setting], float):
        return [_as_float(one) for one in given]
    return [next(iter(upgrade({setting: one}).values())) for one in given]


def _as_float(value: Any) -> Any:
    try:
        return value if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return value  # the check of the space against training reports it


def _step(setting: str, line: Mapping[str, Any], width: float, *, is_integer: bool) -> float:
    """Return the step. It must lead from one end of the range to the other; Optuna would move the end."""
    step = _as_float(line["step"])
    is_number = isinstance(step, float) and 0 < step < math.inf and (step.is_integer() or not is_integer)
    steps = width / step if is_number else 0.0
    if not 0 < steps < _MAX_STEPS or not math.isclose(steps, round(steps), rel_tol=1e-12):  # close: 0.3 / 0.1 is not 3
        raise SettingsError(
            f"The range of {setting} in a space must be a whole number of steps above 0"
            f"{', which are integers' if is_integer else ''}, got {_spell(line)}."
        )
    return float(step)


def _ends(setting: str, line: Mapping[str, Any], start: float, *, is_integer: bool) -> tuple[float, float]:
    if "times" in line and not start:
        raise SettingsError(f"`{setting}` of a space must have low: and high:, got times: with a starting value of 0.")
    try:
        factor, ends = (start, line["times"]) if "times" in line else (1.0, (line["low"], line["high"]))
        low, high = (factor * float(end) for end in ends)
        is_finite = math.isfinite(low) and math.isfinite(high) and math.isfinite(high - low)
    except (TypeError, ValueError, KeyError, OverflowError):
        is_finite = False
    if not is_finite:
        raise SettingsError(f"The range of {setting} in a space must have two numbers, got {_spell(line)}.")
    if is_integer and "times" in line:
        return float(max(1, round(low))), float(max(2, round(high)))  # a small start would make both ends 0 or 1
    if is_integer and not (low.is_integer() and high.is_integer()):
        raise SettingsError(f"The range of {setting} in a space must have integers, got {_spell(line)}.")
    return low, high


def _narrowed(
    one: Dimension, values: Mapping[str, tuple[Value, ...]], base: Mapping[str, Any], varied: Sequence[Dimension]
) -> Dimension | None:
    """Return the dimension with the values of its condition that can occur; None if it never applies."""
    choices = {other.name: other.choices for other in varied}
    when = {}
    for name, allowed in one.when.items():
        possible = values.get(name) or choices.get(name) or (base[name],)
        kept = tuple(value for value in allowed if value in possible)
        if not kept:
            return None
        if set(kept) != set(possible):
            when[name] = kept
    return replace(one, when=when)


def _spell(value: Any) -> str:
    """Return a value as YAML spells it, shortened for a message."""
    return shorten(_yaml(value))


def _yaml(value: Any, depth: int = 3) -> str:
    if isinstance(value, dict | list) and not depth:
        return "..."
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_yaml(key, 0)}: {_yaml(one, depth - 1)}" for key, one in _first(value.items())) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_yaml(one, depth - 1) for one in _first(value)) + "]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _first(values: Any) -> list[Any]:
    return list(itertools.islice(values, _MAX_LISTED))
