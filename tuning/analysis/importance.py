"""How much each parameter had to do with being among the best trials, by Optuna's PED-ANOVA.

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
"""With fewer complete trials the shares are noise."""
_GOOD, _MIN_GOOD = 0.1, 5


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Shares of the parameters that all these trials have."""

    loss: str | None = None
    """The trials with this loss; None: all trials."""
    trials: int
    """Complete trials that it rests on."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Parameter to share, the largest first, summing to 1; empty where it cannot be told."""
    reason: str = ""
    """Why there are no shares."""


def importances(study: optuna.Study) -> list[Importance]:
    """Return the importances over all trials and, where several losses were searched, within each of them.

    The first entry is that over all trials, with the parameters that every loss has. Those of one loss alone stand in
    the entry of that loss. Too few trials give an entry without shares, and the reason.
    """
    searched = trials.losses(study)
    groups = [None, *searched] if len(searched) > 1 else [None]
    return [importance(study, loss) for loss in groups]


def importance(study: optuna.Study, loss: str | None = None) -> Importance:
    """Return the importances over the trials with this loss; None: over all."""
    found = [trial for trial in trials.scored(study) if loss is None or str(trial.params.get(trials.LOSS)) == loss]
    parameters = shared_parameters(found)
    reason = _obstacle(found, parameters)
    shares = {} if reason else _shares(study, found, parameters)
    return Importance(loss=loss, trials=len(found), shares=shares, reason=reason)


def evaluator(found: Sequence[FrozenTrial]) -> "PedAnovaImportanceEvaluator":
    """Return the evaluator for these trials: Optuna's default, but never with fewer than five good trials.

    The default looks at the best tenth, three of thirty; Optuna advises at least five.
    """
    from optuna.importance import PedAnovaImportanceEvaluator  # loads scikit-learn

    return PedAnovaImportanceEvaluator(target_quantile=max(_GOOD, _MIN_GOOD / max(len(found), MIN_TRIALS)))


def shared_parameters(found: Sequence[FrozenTrial]) -> list[str]:
    """Return the names of parameters that every one of these trials has and that took more than one value, sorted."""
    names = set.intersection(*(set(trial.params) for trial in found)) if found else set()
    return sorted(name for name in names if len({trial.params[name] for trial in found}) > 1)


def _obstacle(found: Sequence[FrozenTrial], parameters: Sequence[str]) -> str:
    if len(found) < MIN_TRIALS:
        return f"importance needs {MIN_TRIALS} complete trials, and there are {len(found)}"
    if len({trials.score(trial) for trial in found}) == 1:
        return "all complete trials have the same score"
    if len(parameters) < 2:
        return "fewer than two parameters that all complete trials have took more than one value"
    return ""


def _shares(study: optuna.Study, found: Sequence[FrozenTrial], parameters: list[str]) -> dict[str, float]:
    numbers = {trial.number for trial in found}
    part = trials.copy_study(study, keep=lambda trial: trial.number in numbers)
    with warnings.catch_warnings():
        # A range that was changed while the study ran counts as two; Optuna says so when one of them is small.
        warnings.filterwarnings("ignore", "Some regimes for parameter", UserWarning)
        return optuna.importance.get_param_importances(part, evaluator=evaluator(found), params=parameters)
