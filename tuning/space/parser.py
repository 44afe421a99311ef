"""Reads what a search varies from YAML, and checks it against the settings of training.

Each setting has one line: a range `{low: 0.0, high: 0.2}`, optionally with `log: true` or `step:`; a range
`{times: [0.25, 4]}` in multiples of the value that the search starts from; or `{choices: [16, 32]}`.
`when: {loss: [asl]}` limits a line to some values of a setting before it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from trainer.core import presets
from trainer.core.errors import SettingsError, nearest
from tuning.space.space import Dimension, Space, Value

__all__ = ["SPACES", "read_space"]

SPACES = Path(__file__).parent
_KINDS = {"low": {"low", "high", "log", "step"}, "times": {"times", "log", "step"}, "choices": {"choices"}}
"""What tells one kind of line from the others, and what such a line may hold beside `when`."""
_SECTIONS = ("encoder", "objective", "fit")
_BESIDES = ("max_length",)
_OF_THE_SEARCH = ("best_metric", "evals_per_epoch")
"""Settings of those parts that the search itself sets."""


def read_space(
    name: str, base: Mapping[str, Any], known: Mapping[str, str], losses: Sequence[str], fixed: Sequence[str]
) -> Space:
    """The space of a shipped name or YAML file, around the settings `base`.

    known: every setting of training with its part. losses: those to search over. fixed: settings that the user has
    given, which are not varied. Raises SettingsError for a setting that does not exist or is not for a search, and for
    ranges that are none.
    """
    lines = presets.load_yaml("space", name, SPACES)
    if "loss" in lines:
        raise SettingsError(f"space must leave out `loss`, but got space={name!r} with it. Use losses=bce,asl.")
    searchable = sorted(
        setting
        for setting, part in known.items()
        if (part in _SECTIONS or setting in _BESIDES) and setting not in _OF_THE_SEARCH
    )
    if unnamed := [line for line in lines if not isinstance(line, str)]:
        raise SettingsError(f"space must have names before the colons, but got {unnamed[0]!r} in space={name!r}.")
    for line, spec in lines.items():
        _check_name(name, line, known, searchable)
        _check_line(name, line, spec)
        _check_condition(line, spec.get("when", {}), base, lines)
    dimensions = [Dimension(name="loss", choices=tuple(losses))] if len(losses) > 1 else []
    varied = [_dimension(line, spec, base) for line, spec in lines.items() if line not in fixed]
    values = {"loss": tuple(losses)}
    dimensions += [kept for one in varied if (kept := _narrowed(one, values, base, varied))]
    if not dimensions:
        raise SettingsError(f"space must vary something for losses={','.join(losses)}, but got space={name!r}.")
    conditions = {
        (other, value)
        for line, spec in lines.items()
        for other, values in spec.get("when", {}).items()
        for value in _values(other, values, base)
        if line not in fixed and other not in lines
    }
    return Space(tuple(dimensions), {**base, "loss": losses[0]}, tuple(sorted(conditions, key=str)))


def _check_name(name: str, line: str, known: Mapping[str, str], searchable: Sequence[str]) -> None:
    if line in searchable:
        return
    reason = (
        "is none to search: what is chosen on dev after a training needs no trials, and the rest is not training"
        if line in known
        else "does not exist"
    )
    hint = nearest(line, searchable)
    raise SettingsError(
        f"space must vary settings of training, but got {line!r} in space={name!r}, which {reason}.{hint}"
    )


def _check_line(name: str, line: str, spec: Any) -> None:
    kinds = [kind for kind in _KINDS if isinstance(spec, dict) and kind in spec]
    may_have = _KINDS[kinds[0]] | {"when"} if len(kinds) == 1 else set()
    types = {"log": bool, "times": list, "choices": list}
    is_well_formed = may_have and all(
        key in may_have and isinstance(value, types.get(key, object)) for key, value in spec.items()
    )
    if not is_well_formed:
        raise SettingsError(
            f"{line} of a space must be a range {{low:, high:}} or {{times: [from, to]}}, which may have log: true or "
            f"step:, or {{choices: [...]}}, and each may have when:, but got {line}: {spec} in space={name!r}."
        )


def _check_condition(line: str, when: Any, base: Mapping[str, Any], lines: Mapping[str, Any]) -> None:
    lists = when.values() if isinstance(when, dict) and all(isinstance(key, str) for key in when) else [None]
    if not all(
        isinstance(values, list) and values and all(isinstance(one, Value) for one in values) for values in lists
    ):
        raise SettingsError(f"when of {line} must list values of settings, such as {{loss: [asl]}}, but got {when=}.")
    unknown = set(when) - set(base)
    if unknown:
        hint = nearest(min(unknown), sorted(base))
        raise SettingsError(f"when of {line} must name settings of training, but got {sorted(unknown)}.{hint}")
    order = list(lines)
    later = [other for other in when if other in lines and order.index(other) > order.index(line)]
    if later:
        raise SettingsError(f"when of {line} must name settings before it, but got {later}. Move {line} below them.")
    ranges = [other for other in when if other in lines and "choices" not in lines[other]]
    if ranges:
        raise SettingsError(f"when of {line} must name settings with choices, but got {ranges} with a range.")
    for other in [other for other in when if other in lines]:
        choices = _values(other, lines[other]["choices"], base)
        none = [value for value in _values(other, when[other], base) if value not in choices]
        if none:
            raise SettingsError(f"when of {line} must list choices of {other}, but got {none}.")
        conditions = lines[other].get("when", {})
        if not all(set(when.get(name, [None])) <= set(allowed) for name, allowed in conditions.items()):
            raise SettingsError(f"when of {line} must repeat what {other} depends on, but got {when}.")


def _dimension(name: str, spec: Mapping[str, Any], base: Mapping[str, Any]) -> Dimension:
    when = {other: tuple(_values(other, values, base)) for other, values in spec.get("when", {}).items()}
    if "choices" in spec:
        return Dimension(name=name, choices=_choices(name, _values(name, spec["choices"], base)), when=when)
    is_integer = isinstance(base[name], int)
    low, high = _ends(name, spec, base[name], is_integer=is_integer)
    step = spec.get("step")
    if low >= high or (spec.get("log") and (low <= 0 or step is not None)):
        raise SettingsError(
            f"range of {name} must rise, and from above 0 and without a step where it is logarithmic, but got {spec}."
        )
    if step is not None:
        step = _step(name, spec, high - low, is_integer=is_integer)
    return Dimension(
        name=name, is_integer=is_integer, low=low, high=high, log=bool(spec.get("log")), step=step, when=when
    )


def _choices(name: str, given: Sequence[Any]) -> tuple[Value, ...]:
    if not given or not all(isinstance(one, Value) for one in given) or len(set(given)) < len(given):
        raise SettingsError(f"choices of {name} must be different values, but got {given}.")
    return tuple(given)


def _values(name: str, given: Sequence[Any], base: Mapping[str, Any]) -> list[Any]:
    """Values of a setting: YAML reads `1e-4` as text, and training would say that it used 0.0001."""
    return [_as_float(one) for one in given] if isinstance(base[name], float) else list(given)


def _as_float(value: Any) -> Any:
    try:
        return value if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return value  # training says what is wrong with it


def _step(name: str, spec: Mapping[str, Any], width: float, *, is_integer: bool) -> float:
    """The step, which must lead from one end of the range to the other: Optuna would move the end."""
    step = _as_float(spec["step"])
    is_number = isinstance(step, float) and 0 < step < math.inf and (step.is_integer() or not is_integer)
    if not is_number or round(Decimal(repr(width)), 12) % Decimal(repr(step)):
        raise SettingsError(
            f"range of {name} must be a whole number of steps above 0, which are whole for whole numbers, "
            f"but got {dict(spec)}."
        )
    return float(step)


def _ends(name: str, spec: Mapping[str, Any], around: Any, *, is_integer: bool) -> tuple[float, float]:
    if isinstance(around, bool | str):
        raise SettingsError(f"{name} must be varied by choices, but got a range: {dict(spec)}.")
    try:
        if "times" in spec:
            if not around:
                raise SettingsError(
                    f"{name} must be varied by low: and high:, since the search starts from {around!r}, but got times:."
                )
            low, high = (around * float(factor) for factor in spec["times"])
        else:
            low, high = float(spec["low"]), float(spec["high"])
        is_finite = math.isfinite(low) and math.isfinite(high) and math.isfinite(high - low)
    except (TypeError, ValueError, KeyError):
        is_finite = False
    if not is_finite:
        raise SettingsError(f"range of {name} must have two numbers, but got {dict(spec)}.")
    if is_integer and "times" in spec:
        return float(max(1, round(low))), float(max(2, round(high)))
    if is_integer and not (low.is_integer() and high.is_integer()):
        raise SettingsError(f"range of {name} must have whole numbers, but got {dict(spec)}.")
    return low, high


def _narrowed(
    one: Dimension, values: Mapping[str, tuple[Value, ...]], base: Mapping[str, Any], varied: Sequence[Dimension]
) -> Dimension | None:
    """The dimension with its condition cut down to the values that can occur; None when it never applies."""
    ranges = {other.name: other.choices for other in varied}
    when = {}
    for name, allowed in one.when.items():
        possible = values.get(name) or ranges.get(name) or (base[name],)
        kept = tuple(value for value in allowed if value in possible)
        if not kept:
            return None
        if set(kept) != set(possible):
            when[name] = kept
    return replace(one, when=when)
