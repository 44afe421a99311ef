"""Which figures a study can have, and from what."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuning.analysis.importance import evaluator, importance, shared_parameters
from tuning.study import trials

__all__ = ["Drawing", "plan"]

_MAX_PARAMETERS = 8
"""In one figure; more cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure to ask of Optuna: `plot_NAME(study, **options)`."""

    name: str
    study: optuna.Study
    options: dict[str, Any]
    obstacle: str
    """Why the study cannot have this figure; empty where it can."""


def plan(study: optuna.Study, names: Sequence[str]) -> list[Drawing]:
    """Return every figure that a study of this kind has, those with an obstacle too.

    names: of the objectives. Raises ValueError unless there is one for each.
    """
    if len(names) != len(study.directions):
        raise ValueError(f"names must have one per objective of the study, but got {names=}, {study.directions=}.")
    shown = trials.copy_study(study)
    return [
        *_over_values(study, shown, names[0]),
        Drawing(name="intermediate_values", study=shown, options={}, obstacle=_no_reports(shown)),
        Drawing(
            name="timeline",
            study=trials.copy_study(study, keep=lambda trial: True),  # what was queued again has taken time too
            options={},
            obstacle=_no_time(study),
        ),
        *_over_objectives(study, names),
    ]


def _over_values(study: optuna.Study, shown: optuna.Study, name: str) -> Iterator[Drawing]:
    """What shows scores, or scores over parameters."""
    found, matter = trials.scored(study), importance(study)
    few, value = _too_few(found), {"target_name": name}
    shared = sorted(shared_parameters(found), key=lambda name: -matter.shares.get(name, 0.0))
    varied = [*shared, *(name for name in _varied(found) if name not in shared)][:_MAX_PARAMETERS]
    single = "" if len(varied) > 1 else "fewer than two parameters took more than one value"
    unshared = "" if len(shared) > 1 else "fewer than two parameters that all complete trials have took several values"
    yield Drawing(name="optimization_history", study=shown, options=value, obstacle=few)
    yield Drawing(
        name="param_importances",
        study=shown,
        options=value | {"params": list(matter.shares), "evaluator": evaluator(found)},
        obstacle=matter.reason,
    )
    yield Drawing(
        name="slice",
        study=shown,
        options=value | {"params": varied},
        obstacle=few or ("" if varied else "no parameter took more than one value"),
    )
    yield Drawing(name="contour", study=shown, options=value | {"params": shared[:2]}, obstacle=few or unshared)
    yield Drawing(name="parallel_coordinate", study=shown, options=value | {"params": varied}, obstacle=few or single)


def _over_objectives(study: optuna.Study, names: Sequence[str]) -> Iterator[Drawing]:
    if len(names) == 2:
        both = trials.copy_study(study, objectives=2)
        few = _too_few(trials.scored(study))
        yield Drawing(name="pareto_front", study=both, options={"target_names": list(names)}, obstacle=few)


def _too_few(found: Sequence[FrozenTrial]) -> str:
    return "" if len(found) > 1 else f"it needs two complete trials, and there {'is one' if found else 'are none'}"


def _no_time(study: optuna.Study) -> str:
    found = study.get_trials(deepcopy=False)
    times = {time for trial in found for time in (trial.datetime_start, trial.datetime_complete) if time}
    if not times:
        return "no trial has started"
    running = any(trial.state == TrialState.RUNNING for trial in found)
    return "" if running or len(times) > 1 else "no trial has taken any time"


def _no_reports(shown: optuna.Study) -> str:
    ends = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)  # Optuna draws no others
    found = shown.get_trials(deepcopy=False, states=ends)
    return (
        "" if any(trial.intermediate_values for trial in found) else "only failed trials have reported a value, or none"
    )


def _varied(found: Sequence[FrozenTrial]) -> list[str]:
    """Names of parameters that took more than one value, sorted; not every trial needs to have them."""
    names = {name for trial in found for name in trial.params}
    return sorted(n for n in names if len({trial.params[n] for trial in found if n in trial.params}) > 1)
