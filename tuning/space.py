"""What a search varies: read from YAML, checked against the settings of training, suggested by Optuna.

Each setting has one line: a range `{low: 0.0, high: 0.2}`, optionally with `log: true` or `step:`; a range
`{times: [0.25, 4]}` in multiples of the value that the search starts from; or `{choices: [16, 32]}`.
`when: {loss: [asl]}` limits a line to some values of a setting before it.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from trainer.core import settings
from trainer.core.errors import SettingsError

__all__ = ["SPACES", "Dimension", "Space", "read_space"]

SPACES = Path(__file__).with_name("spaces")
_KEYS = {"low", "high", "times", "choices", "log", "step", "when"}
_SECTIONS = ("encoder", "objective", "fit")
_BESIDES = ("max_length",)
_OF_THE_SEARCH = ("best_metric", "evals_per_epoch")
"""Settings of those parts that the search itself sets."""

Value = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One setting: a range of numbers (`low`, `high`), or a list of choices."""

    name: str
    is_integer: bool = False
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    choices: tuple[Value, ...] = ()
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Whether the setting is varied where the others have these values."""
        return all(values[name] in allowed for name, allowed in self.when.items())

    def suggest(self, trial: optuna.Trial) -> Value:
        """The value for a trial."""
        if self.choices:
            chosen: Any = trial.suggest_categorical(self.name, self.choices)
            return chosen  # type: ignore[no-any-return]  # one of the choices
        value: Value
        if self.is_integer:
            value = trial.suggest_int(self.name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        else:
            value = trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)
        return value

    def nearest(self, value: Any) -> Value | None:
        """The value nearest to this one that a trial can have; None when it is not one of the choices."""
        if self.choices:
            return next((choice for choice in self.choices if choice == value), None)
        inside = min(max(float(value), self.low), self.high)
        if self.step:
            inside = self.low + round((inside - self.low) / self.step) * self.step
        return round(inside) if self.is_integer else inside

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values to check: all choices, or the two ends."""
        return self.choices or self.points(2)

    def describe(self) -> dict[str, Any]:
        """What its line in a file could say, with factors resolved."""
        told: dict[str, Any] = {"choices": list(self.choices)} if self.choices else {"low": self.low, "high": self.high}
        told |= {"log": True} if self.log else {}
        told |= {"step": self.step} if self.step else {}
        return told | ({"when": {name: list(values) for name, values in self.when.items()}} if self.when else {})

    def points(self, count: int) -> tuple[Value, ...]:
        """So many evenly spaced values, in ratio where the range is logarithmic; fewer where there are fewer."""
        if self.choices:
            return self.choices
        if self.step:
            count = min(count, round((self.high - self.low) / self.step) + 1)
        spaced = (np.geomspace if self.log else np.linspace)(self.low, self.high, count)
        if self.step:
            spaced = self.low + np.round((spaced - self.low) / self.step) * self.step
        inner = np.clip(spaced, self.low, self.high)  # rounding must not leave the range
        return tuple(dict.fromkeys(round(value) if self.is_integer else float(value) for value in inner))


@dataclass(frozen=True)
class Space:
    """The settings that are varied, in order, and the values of all others."""

    dimensions: tuple[Dimension, ...]
    base: Mapping[str, Any]

    def suggest(self, trial: optuna.Trial) -> dict[str, Value]:
        """The settings of a trial that differ from the base."""
        chosen: dict[str, Value] = {}
        for dimension in self.dimensions:
            if dimension.applies({**self.base, **chosen}):
                chosen[dimension.name] = dimension.suggest(trial)
        return chosen

    def project(self, values: Mapping[str, Any]) -> dict[str, Value]:
        """A training's settings as values of this space, brought to its edge where they lie outside."""
        chosen: dict[str, Value] = {}
        for dimension in self.dimensions:
            value = dimension.nearest(values[dimension.name])
            if value is not None and dimension.applies({**self.base, **chosen}):
                chosen[dimension.name] = value
        return chosen

    def grid(self, count: int) -> Iterator[dict[str, Value]]:
        """Every combination of so many values per range."""
        yield from self._combinations(0, {}, [dimension.points(count) for dimension in self.dimensions])

    def to_check(self) -> list[dict[str, Value]]:
        """Settings to ask training about: each end and choice of each setting, for each value it depends on."""
        losses = next((one.choices for one in self.dimensions if one.name == "loss"), (self.base["loss"],))
        asked = []
        for dimension in self.dimensions:
            conditions = {"loss": losses, **dimension.when}
            for values in itertools.product(*conditions.values()):
                where = dict(zip(conditions, values, strict=True))
                asked += [{**where, dimension.name: end} for end in dimension.ends]
        return asked

    def describe(self) -> dict[str, dict[str, Any]]:
        """JSON that says what is varied; two studies with the same are about the same."""
        return {one.name: one.describe() for one in self.dimensions}

    def _combinations(
        self, place: int, chosen: dict[str, Value], points: Sequence[tuple[Value, ...]]
    ) -> Iterator[dict[str, Value]]:
        if place == len(self.dimensions):
            yield dict(chosen)
            return
        dimension = self.dimensions[place]
        if not dimension.applies({**self.base, **chosen}):
            yield from self._combinations(place + 1, chosen, points)
            return
        for value in points[place]:
            yield from self._combinations(place + 1, {**chosen, dimension.name: value}, points)


def read_space(
    name: str, base: Mapping[str, Any], known: Mapping[str, str], losses: Sequence[str], fixed: Sequence[str]
) -> Space:
    """The space of a shipped name or YAML file, around the settings `base`.

    known: every setting of training with its part. losses: those to search over. fixed: settings that the user has
    given, which are not varied. Raises SettingsError for a setting that does not exist or is not for a search, and for
    ranges that are none.
    """
    lines = settings.load_yaml("space", name, SPACES)
    if "loss" in lines:
        raise SettingsError(f"space must leave out `loss`, but got space={name!r} with it. Use losses=bce,asl.")
    for line, spec in lines.items():
        _check_line(name, line, spec, known, lines)
    dimensions = [Dimension(name="loss", choices=tuple(losses))] if len(losses) > 1 else []
    varied = [_dimension(line, spec, base) for line, spec in lines.items() if line not in fixed]
    values = {"loss": tuple(losses)}
    dimensions += [kept for one in varied if (kept := _narrowed(one, values, base, varied))]
    if not dimensions:
        raise SettingsError(f"space must vary something for losses={','.join(losses)}, but got space={name!r}.")
    return Space(tuple(dimensions), {**base, "loss": losses[0]})


def _check_line(name: str, line: str, spec: Any, known: Mapping[str, str], lines: Mapping[str, Any]) -> None:
    searchable = sorted(
        setting
        for setting, part in known.items()
        if (part in _SECTIONS or setting in _BESIDES) and setting not in _OF_THE_SEARCH
    )
    if line not in searchable:
        hint = settings.nearest(line, searchable)
        reason = (
            "is none to search: what is chosen on dev after a training needs no trials, and the rest is not training"
            if line in known
            else "does not exist"
        )
        raise SettingsError(f"space must vary settings of training, but got {line!r}, which {reason}.{hint}")
    if not isinstance(spec, dict) or set(spec) - _KEYS or len({"low", "times", "choices"} & set(spec)) != 1:
        raise SettingsError(
            f"{line} of a space must be a range {{low:, high:}}, {{times: [from, to]}} or {{choices: [...]}}, "
            f"with log, step and when, but got {line}: {spec} in space={name!r}."
        )
    _check_condition(line, spec.get("when", {}), known, lines)


def _check_condition(line: str, when: Any, known: Mapping[str, str], lines: Mapping[str, Any]) -> None:
    if not isinstance(when, dict) or not all(isinstance(values, list) for values in when.values()):
        raise SettingsError(f"when of {line} must list values of settings, {{loss: [asl]}}, but got {when}.")
    unknown = set(when) - set(known)
    if unknown:
        raise SettingsError(f"when of {line} must name settings of training, but got {sorted(unknown)}.")
    order = list(lines)
    later = [other for other in when if other in lines and order.index(other) > order.index(line)]
    if later:
        raise SettingsError(f"when of {line} must name settings before it, but got {later}. Move {line} below them.")
    ranges = [other for other in when if other in lines and "choices" not in lines[other]]
    if ranges:
        raise SettingsError(f"when of {line} must name settings with choices, but got {ranges} with a range.")
    for other in [other for other in when if other in lines]:
        conditions = lines[other].get("when", {})
        if not all(set(when.get(name, [None])) <= set(allowed) for name, allowed in conditions.items()):
            raise SettingsError(f"when of {line} must repeat what {other} depends on, but got {when}.")


def _dimension(name: str, spec: Mapping[str, Any], base: Mapping[str, Any]) -> Dimension:
    when = {other: tuple(values) for other, values in spec.get("when", {}).items()}
    if "choices" in spec:
        return Dimension(name=name, choices=_choices(name, spec["choices"], base[name]), when=when)
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


def _choices(name: str, given: Any, around: Any) -> tuple[Value, ...]:
    """The choices as values of the setting: YAML reads `1e-4` as text, and training would say that it used 0.0001."""
    values = [_as_float(one) if isinstance(around, float) else one for one in given] if isinstance(given, list) else []
    if not values or not all(isinstance(one, Value) for one in values) or len(set(values)) < len(values):
        raise SettingsError(f"choices of {name} must be different values, but got {given}.")
    return tuple(values)


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
            low, high = (around * float(factor) for factor in spec["times"])
        else:
            low, high = float(spec["low"]), float(spec["high"])
        is_finite = math.isfinite(low) and math.isfinite(high)
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
