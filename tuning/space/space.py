"""The settings that a search varies, with Optuna's suggestions for them."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna

__all__ = ["Dimension", "Space", "Value"]

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
    """Other settings to the values with which this one is varied."""

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Return True if the setting is varied with these values of the others."""
        return all(values[name] in allowed for name, allowed in self.when.items())

    def suggest(self, trial: optuna.Trial) -> Value:
        """Return the value for a trial."""
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
        """Return the nearest value that a trial can have; None if it is not one of the choices."""
        if self.choices:
            return next((choice for choice in self.choices if choice == value), None)
        inside = min(max(float(value), self.low), self.high)
        if self.step:
            inside = self.low + round((inside - self.low) / self.step) * self.step
        return round(inside) if self.is_integer else inside

    @property
    def ends(self) -> tuple[Value, ...]:
        """Return the values to check: all choices, or the two ends."""
        return self.choices or self.points(2)

    def describe(self) -> dict[str, Any]:
        """Return the line of a space file for this dimension, with factors resolved."""
        line: dict[str, Any] = {"choices": list(self.choices)} if self.choices else {"low": self.low, "high": self.high}
        line |= {"log": True} if self.log else {}
        line |= {"step": self.step} if self.step else {}
        return line | ({"when": {name: list(values) for name, values in self.when.items()}} if self.when else {})

    def points(self, count: int) -> tuple[Value, ...]:
        """Return `count` evenly spaced values, or all if there are fewer; in a logarithmic range even in ratio."""
        if self.choices:
            return self.choices
        if self.step:
            count = min(count, round((self.high - self.low) / self.step) + 1)
        spaced = (np.geomspace if self.log else np.linspace)(self.low, self.high, count)
        if self.step:
            spaced = self.low + np.round((spaced - self.low) / self.step) * self.step
        inside = np.clip(spaced, self.low, self.high)  # rounding must not leave the range
        # Integers may be equal after rounding.
        return tuple(dict.fromkeys(round(value) if self.is_integer else float(value) for value in inside))


@dataclass(frozen=True)
class Space:
    """The dimensions of a search, in order, and the values of all other settings."""

    dimensions: tuple[Dimension, ...]
    base: Mapping[str, Any]
    conditions: tuple[tuple[str, Value], ...] = ()
    """Settings that are not varied, with each value that a dimension depends on."""

    def suggest(self, trial: optuna.Trial) -> dict[str, Value]:
        """Return the settings of a trial that differ from the base."""
        chosen: dict[str, Value] = {}
        for dimension in self.dimensions:
            if dimension.applies({**self.base, **chosen}):
                chosen[dimension.name] = dimension.suggest(trial)
        return chosen

    def project(self, values: Mapping[str, Any]) -> dict[str, Value]:
        """Return the settings of a training as values of this space; outside a range, its nearest end."""
        chosen: dict[str, Value] = {}
        for dimension in self.dimensions:
            value = dimension.nearest(values[dimension.name])
            if value is not None and dimension.applies({**self.base, **chosen}):
                chosen[dimension.name] = value
        return chosen

    def to_check(self) -> list[dict[str, Value]]:
        """Return the changes of settings that training must accept; the setting in question is the last of each.

        They are each end and choice of each setting, for each value that it depends on, and the values of `conditions`.
        """
        losses = next((one.choices for one in self.dimensions if one.name == "loss"), (self.base["loss"],))
        changes = []
        for dimension in self.dimensions:
            conditions = {"loss": losses, **dimension.when}
            for values in itertools.product(*conditions.values()):
                where = dict(zip(conditions, values, strict=True))
                changes += [{**where, dimension.name: end} for end in dimension.ends]
        return changes + [{name: value} for name, value in self.conditions]

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return the dimensions as JSON; two studies of equal spaces can be continued as one."""
        return {one.name: one.describe() for one in self.dimensions}
