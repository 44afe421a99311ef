"""Ranges of the good trials in the searched space, and whether the best trial is at an edge."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from trainer.reporting.report import DASH, show
from tuning.analysis.importance import MIN_TRIALS
from tuning.study import trials

__all__ = ["ParameterRange", "parameter_ranges"]

_GOOD = 0.25
_EDGE = 0.05


@dataclass(frozen=True, kw_only=True)
class ParameterRange:
    """What was searched for one parameter, and where the good trials are; texts for people."""

    name: str
    searched: str
    """The range, with `log` for a logarithmic one, or the choices."""
    good: str
    """Middle half of the best quarter of complete trials, or the count of each choice; empty: too few trials."""
    best: str
    """Value of the best trial; empty if that does not have the parameter."""
    edge: Literal["", "lower", "upper"] = ""
    """End of the range that the best value is near, within 5 % of it; empty with too few trials as well."""


def parameter_ranges(study: optuna.Study) -> list[ParameterRange]:
    """Return the range of every parameter with more than one possible value, by name; none without a complete trial."""
    complete = trials.scored(study)
    spaces: dict[str, BaseDistribution] = {}
    for trial in sorted(complete, key=lambda one: one.number):
        spaces.update(trial.distributions)
    good = complete[: math.ceil(_GOOD * len(complete))] if len(complete) >= MIN_TRIALS else []
    return [_range_of(name, spaces[name], good, complete[0]) for name in sorted(spaces) if not spaces[name].single()]


def _range_of(name: str, space: BaseDistribution, good: Sequence[FrozenTrial], best: FrozenTrial) -> ParameterRange:
    values = [trial.params[name] for trial in good if name in trial.params]
    best_value = _number(best.params[name]) if name in best.params else ""
    if isinstance(space, FloatDistribution | IntDistribution):
        edge = _edge(space, best.params[name]) if good and name in best.params else ""
        return ParameterRange(
            name=name, searched=_spell(space), good=_middle(space, values), best=best_value, edge=edge
        )
    choices = space.choices if isinstance(space, CategoricalDistribution) else ()
    counts = Counter(values).most_common()
    good_choices = ", ".join(f"{show(choice)} ({count} of {len(values)})" for choice, count in counts)
    return ParameterRange(name=name, searched=show(list(choices)), good=good_choices, best=best_value)


def _spell(space: FloatDistribution | IntDistribution) -> str:
    return f"{_number(space.low)} {DASH} {_number(space.high)}{', log' if space.log else ''}"


def _middle(space: FloatDistribution | IntDistribution, values: Sequence[float]) -> str:
    if not values:
        return ""
    scaled = np.log(values) if space.log else np.asarray(values, float)  # interpolates on the searched scale
    ends = np.quantile(scaled, [0.25, 0.75])
    low, high = np.exp(ends) if space.log else ends
    return f"{_number(float(low))} {DASH} {_number(float(high))}"


def _edge(space: FloatDistribution | IntDistribution, value: float) -> Literal["", "lower", "upper"]:
    low, high, here = (math.log(x) if space.log else x for x in (space.low, space.high, value))
    position = (here - low) / (high - low)
    return "lower" if position <= _EDGE else "upper" if position >= 1 - _EDGE else ""


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else show(value)
