"""The figures of a study, with the reason for each one that the study cannot have."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuning.analysis.importance import MIN_TRIALS, evaluator, importance, shared_parameters
from tuning.study import trials

__all__ = ["FigureSpec", "figure_specs"]

_MAX_PARAMETERS = 8
"""In one figure; more cannot be read."""


@dataclass(frozen=True, kw_only=True)
class FigureSpec:
    """A figure that Optuna plots with `plot_NAME(study, **options)`."""

    name: str
    study: optuna.Study
    options: dict[str, Any]
    unavailable_because: str
    """Why the study cannot have this figure; empty if it can."""


def figure_specs(study: optuna.Study, objectives: Sequence[str]) -> list[FigureSpec]:
    """Return every figure for a study of this kind, the unavailable ones too.

    objectives: their names. Raises ValueError unless there is one for each.
    """
    if len(objectives) != len(study.directions):
        raise ValueError(f"`objectives` must have {len(study.directions)} names, got {len(objectives)}.")
    shown = trials.copy_study(study)
    return [
        *_of_scores(study, shown, objectives[0]),
        FigureSpec(
            name="intermediate_values", study=shown, options={}, unavailable_because=_why_no_intermediate_values(shown)
        ),
        FigureSpec(
            name="timeline",
            study=trials.copy_study(study, keep=lambda trial: True),  # a retried trial has taken time too
            options={},
            unavailable_because=_why_no_timeline(study),
        ),
        *_of_objectives(study, objectives),
    ]


def _of_scores(study: optuna.Study, shown: optuna.Study, objective: str) -> Iterator[FigureSpec]:
    complete, matter = trials.scored(study), importance(study)
    label = {"target_name": objective}
    shared = sorted(shared_parameters(complete), key=lambda name: -matter.fractions.get(name, 0.0))
    varied = [*shared, *(name for name in _varied(complete) if name not in shared)][:_MAX_PARAMETERS]
    too_few = _why_too_few(complete, 2)
    # A surface, or lines that cross, suggest structure where few trials show none.
    too_few_for_many = _why_too_few(complete, MIN_TRIALS)
    unshared = "" if len(shared) > 1 else "fewer than two parameters that all complete trials have took several values"
    single = "" if len(varied) > 1 else "fewer than two parameters took more than one value"
    yield FigureSpec(name="optimization_history", study=shown, options=label, unavailable_because=too_few)
    yield FigureSpec(
        name="param_importances",
        study=shown,
        options=label | {"params": list(matter.fractions), "evaluator": evaluator(complete)},
        unavailable_because=matter.unavailable_because,
    )
    yield FigureSpec(
        name="slice",
        study=shown,
        options=label | {"params": varied},
        unavailable_because=too_few or ("" if varied else "no parameter took more than one value"),
    )
    yield FigureSpec(
        name="contour",
        study=shown,
        options=label | {"params": shared[:2]},
        unavailable_because=too_few_for_many or unshared,
    )
    yield FigureSpec(
        name="parallel_coordinate",
        study=shown,
        options=label | {"params": varied},
        unavailable_because=too_few_for_many or single,
    )


def _of_objectives(study: optuna.Study, objectives: Sequence[str]) -> Iterator[FigureSpec]:
    if len(objectives) == 2:
        yield FigureSpec(
            name="pareto_front",
            study=trials.copy_study(study, objectives=2),
            options={"target_names": list(objectives)},
            unavailable_because=_why_too_few(trials.scored(study), 2),
        )


def _why_too_few(complete: Sequence[FrozenTrial], needed: int) -> str:
    there_are = "there is 1" if len(complete) == 1 else f"there are {len(complete)}"
    return "" if len(complete) >= needed else f"it needs {needed} complete trials, and {there_are}"


def _why_no_timeline(study: optuna.Study) -> str:
    found = study.get_trials(deepcopy=False)
    times = {time for trial in found for time in (trial.datetime_start, trial.datetime_complete) if time}
    if not times:
        return "no trial has started"
    running = any(trial.state == TrialState.RUNNING for trial in found)
    return "" if running or len(times) > 1 else "no trial has taken any time"


def _why_no_intermediate_values(shown: optuna.Study) -> str:
    ends = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)  # Optuna draws no others
    drawn = shown.get_trials(deepcopy=False, states=ends)
    return "" if any(trial.intermediate_values for trial in drawn) else "no trial that did not fail reported a value"


def _varied(complete: Sequence[FrozenTrial]) -> list[str]:
    """Return the parameters that took more than one value, sorted; not every trial needs to have them."""
    names = {name for trial in complete for name in trial.params}
    return sorted(n for n in names if len({trial.params[n] for trial in complete if n in trial.params}) > 1)
