"""The plan of a comparison: written before the first training, kept in the study, and never changed afterwards."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import optuna

from trainer.core.errors import TuningError, shorten
from trainer.core.settings import show
from tuning.comparison.config import CompareConfig
from tuning.comparison.configurations import Configurations
from tuning.comparison.results import ComparisonPlan, Pair

__all__ = ["continued", "describe_changes", "describe_pair", "make_plan", "read_plan", "store_plan"]

_PLAN = "plan"
"""Study attribute."""
_FIXED = ("seeds", "metric", "min_effect", "resamples")


def make_plan(name: str, config: CompareConfig, configurations: Configurations) -> ComparisonPlan:
    """Return the plan of a new comparison, written now."""
    return ComparisonPlan(
        name=name,
        configurations=configurations.changes,
        seeds=tuple(range(config.seed, config.seed + config.seeds)),
        metric=config.metric,
        planned=configurations.planned,
        min_effect=config.min_effect,
        resamples=config.resamples,
        written=datetime.now().astimezone().isoformat(timespec="seconds"),
        exploratory=(),
    )


def continued(kept: ComparisonPlan | None, asked: ComparisonPlan) -> ComparisonPlan:
    """Return the plan to follow: the kept one, to which `asked` may add configurations and pairs.

    Pairs that are added are exploratory: the results may have suggested them. Raises TuningError for other changes.
    """
    if kept is None:
        return asked
    if differences := [*_changes_of_fixed(kept, asked), *_lost(kept, asked)]:
        raise TuningError(
            f"The plan of comparison {kept.name} was written at {kept.written} and has changed since "
            f"({shorten('; '.join(differences))}). Give the same plan, to which configurations and pairs may be added, "
            f"or start another comparison: {shlex.quote(f'comparison={kept.name}-2')}."
        )
    known = {*kept.planned, *kept.exploratory}
    added = tuple(pair for pair in asked.planned if pair not in known)
    return replace(
        asked,
        configurations={**kept.configurations, **asked.configurations},
        planned=kept.planned,
        written=kept.written,
        exploratory=(*kept.exploratory, *added),
    )


def read_plan(study: optuna.Study) -> ComparisonPlan | None:
    """Return the plan of a study; None before it is stored."""
    kept = study.user_attrs.get(_PLAN)
    if kept is None:
        return None
    pairs = {name: tuple((first, second) for first, second in kept[name]) for name in ("planned", "exploratory")}
    return ComparisonPlan(**{**kept, **pairs, "seeds": tuple(kept["seeds"])})


def store_plan(study: optuna.Study, plan: ComparisonPlan) -> None:
    """Keep the plan in the study."""
    study.set_user_attr(_PLAN, asdict(plan))


def describe_pair(pair: Pair) -> str:
    """Return a pair in words."""
    return f"{pair[0]} against {pair[1]}"


def describe_changes(changes: Mapping[str, Any]) -> str:
    """Return the settings of a configuration in one line."""
    return ", ".join(f"{name}={show(value)}" for name, value in changes.items()) or "the shared settings"


def _changes_of_fixed(kept: ComparisonPlan, asked: ComparisonPlan) -> list[str]:
    pairs = [(name, show(getattr(kept, name)), show(getattr(asked, name))) for name in _FIXED]
    for name, changes in asked.configurations.items():
        before = kept.configurations.get(name, changes)
        pairs.append((name, describe_changes(before), describe_changes(changes)))
    return [f"{name}: {before} then, {now} now" for name, before, now in pairs if before != now]


def _lost(kept: ComparisonPlan, asked: ComparisonPlan) -> list[str]:
    """Return what the kept plan has and the other lacks: leaving something out after a look at the results is a change.

    Configurations and pairs that were added later may be left out; their results stay.
    """
    planned = {name for pair in kept.planned for name in pair}
    lost = [name for name in kept.configurations if name in planned and name not in asked.configurations]
    lost += [describe_pair(pair) for pair in kept.planned if pair not in asked.planned]
    return [f"{one} is missing" for one in lost]
