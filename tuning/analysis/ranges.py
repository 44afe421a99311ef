"""Where in the searched space the good trials lie, and whether the best one stands at its edge."""

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

__all__ = ["Region", "regions"]

_GOOD = 0.25
_EDGE = 0.05


@dataclass(frozen=True, kw_only=True)
class Region:
    """One parameter: what was searched, and where the good trials lie. Texts as people read them."""

    name: str
    searched: str
    """The range, with `log` where steps are factors, or the choices."""
    good: str
    """Middle half of the best quarter of complete trials, or how often they had each choice; empty: too few."""
    best: str
    """Value of the best trial; empty where it does not have the parameter."""
    edge: Literal["", "lower", "upper"] = ""
    """End of the range that the best trial stands at, within 5 % of it; empty with too few trials as well."""


def regions(study: optuna.Study) -> list[Region]:
    """Return one region per parameter that was really searched, sorted by name; none without a complete trial."""
    found = trials.scored(study)
    spaces: dict[str, BaseDistribution] = {}
    for trial in sorted(found, key=lambda one: one.number):
        spaces.update(trial.distributions)
    few = len(found) < MIN_TRIALS
    good = [] if few else found[: math.ceil(_GOOD * len(found))]
    return [_region(name, spaces[name], good, found[0]) for name in sorted(spaces) if not spaces[name].single()]


def _region(name: str, space: BaseDistribution, good: Sequence[FrozenTrial], best: FrozenTrial) -> Region:
    values = [trial.params[name] for trial in good if name in trial.params]
    shown = _number(best.params[name]) if name in best.params else ""
    if isinstance(space, FloatDistribution | IntDistribution):
        edge = _edge(space, best.params[name]) if good and name in best.params else ""
        return Region(name=name, searched=_range(space), good=_middle(space, values), best=shown, edge=edge)
    choices = space.choices if isinstance(space, CategoricalDistribution) else ()
    counts = Counter(values).most_common()
    good_text = ", ".join(f"{show(choice)} ({count} of {len(values)})" for choice, count in counts)
    return Region(name=name, searched=show(list(choices)), good=good_text, best=shown)


def _range(space: FloatDistribution | IntDistribution) -> str:
    return f"{_number(space.low)} {DASH} {_number(space.high)}{', log' if space.log else ''}"


def _middle(space: FloatDistribution | IntDistribution, values: Sequence[float]) -> str:
    if not values:
        return ""
    scaled = np.log(values) if space.log else np.asarray(values, float)
    ends = np.quantile(scaled, [0.25, 0.75])
    low, high = np.exp(ends) if space.log else ends
    return f"{_number(float(low))} {DASH} {_number(float(high))}"


def _edge(space: FloatDistribution | IntDistribution, value: float) -> Literal["", "lower", "upper"]:
    low, high, here = (math.log(x) if space.log else x for x in (space.low, space.high, value))
    place = (here - low) / (high - low)
    return "lower" if place <= _EDGE else "upper" if place >= 1 - _EDGE else ""


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else show(value)
