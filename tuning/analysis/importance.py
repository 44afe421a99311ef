"""Importance of each parameter for being among the best trials, by Optuna's PED-ANOVA.

Source: Watanabe, Bansal & Hutter 2023, https://arxiv.org/abs/2304.10255.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial

from tuning.study import trials

if TYPE_CHECKING:
    from optuna.importance import PedAnovaImportanceEvaluator

__all__ = ["MIN_TRIALS", "Importance", "evaluator", "importance", "importances", "shared_parameters"]

MIN_TRIALS = 8
"""Complete trials below which importances and ranges are noise."""
_GOOD, _MIN_GOOD = 0.1, 5


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Importances of the parameters that all of some trials have."""

    loss: str | None = None
    """Loss of these trials; None: all trials."""
    trials: int
    """Number of complete trials."""
    fractions: Mapping[str, float] = field(default_factory=dict)
    """Parameter to importance, the largest first, summing to 1; empty where it cannot be computed."""
    unavailable_because: str = ""
    """Why there are no importances."""


def importances(study: optuna.Study) -> list[Importance]:
    """Return the importances over all trials and, if several losses were searched, within each of them.

    The first entry is over all trials and has the parameters that every loss has; the entry of a loss also has the
    parameters of that loss.
    """
    searched = trials.losses(study)
    groups = [None, *searched] if len(searched) > 1 else [None]
    return [importance(study, loss) for loss in groups]


def importance(study: optuna.Study, loss: str | None = None) -> Importance:
    """Return the importances over the trials with this loss; None: over all."""
    complete = [trial for trial in trials.scored(study) if loss is None or str(trial.params.get(trials.LOSS)) == loss]
    parameters = shared_parameters(complete)
    reason = _why_unavailable(complete, parameters)
    fractions = {} if reason else _fractions(study, complete, parameters)
    return Importance(loss=loss, trials=len(complete), fractions=fractions, unavailable_because=reason)


def evaluator(complete: Sequence[FrozenTrial]) -> "PedAnovaImportanceEvaluator":
    """Return the evaluator for these trials: Optuna's default, with at least five good trials.

    The default takes the best tenth, three of thirty; Optuna advises at least five.
    """
    from optuna.importance import PedAnovaImportanceEvaluator  # loads scikit-learn

    # At least MIN_TRIALS: a figure without enough trials makes one too, and a quantile is at most 1.
    return PedAnovaImportanceEvaluator(target_quantile=max(_GOOD, _MIN_GOOD / max(len(complete), MIN_TRIALS)))


def shared_parameters(complete: Sequence[FrozenTrial]) -> list[str]:
    """Return the parameters that every one of these trials has and that took more than one value, sorted."""
    names = set.intersection(*(set(trial.params) for trial in complete)) if complete else set()
    return sorted(name for name in names if len({trial.params[name] for trial in complete}) > 1)


def _why_unavailable(complete: Sequence[FrozenTrial], parameters: Sequence[str]) -> str:
    if len(complete) < MIN_TRIALS:
        return f"it needs {MIN_TRIALS} complete trials, and there are {len(complete)}"
    if len({trials.score(trial) for trial in complete}) == 1:
        return "all complete trials have the same score"
    if len(parameters) < 2:  # one alone would always have 100 %
        return "fewer than two parameters that all complete trials have took more than one value"
    return ""


def _fractions(study: optuna.Study, complete: Sequence[FrozenTrial], parameters: list[str]) -> dict[str, float]:
    numbers = {trial.number for trial in complete}
    part = trials.copy_study(study, keep=lambda trial: trial.number in numbers)
    with warnings.catch_warnings():
        # Optuna warns when a range was changed during the study and few trials have the old or the new one.
        warnings.filterwarnings("ignore", "Some regimes for parameter", UserWarning)
        return optuna.importance.get_param_importances(part, evaluator=evaluator(complete), params=parameters)
