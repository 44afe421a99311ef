"""What a search varies, as Optuna suggests it."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
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
    conditions: tuple[tuple[str, Value], ...] = ()
    """Settings that are not varied, with each value that a line depends on."""

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
        """Settings to ask training about, the one in question last.

        Each end and choice of each setting, for each value it depends on; then the values of `conditions`.
        """
        losses = next((one.choices for one in self.dimensions if one.name == "loss"), (self.base["loss"],))
        asked = []
        for dimension in self.dimensions:
            conditions = {"loss": losses, **dimension.when}
            for values in itertools.product(*conditions.values()):
                where = dict(zip(conditions, values, strict=True))
                asked += [{**where, dimension.name: end} for end in dimension.ends]
        return asked + [{name: value} for name, value in self.conditions]

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
