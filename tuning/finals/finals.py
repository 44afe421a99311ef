"""The finals: the best settings again with fresh seeds, since the best of many trials was also the luckiest.

They are trials of a study of their own, NAME.finals, so that they survive what the search survives.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from tuning.finals.statistics import FinalRun
from tuning.queue import FIXED
from tuning.study.storage import open_study
from tuning.study.trials import Attribute, begun, counted, left_over, run_id, scored, settings

__all__ = ["count", "fill", "is_filled", "open_finals", "read", "seed_of", "settings_of"]

_SETTING, _SEED = "setting", "seed"
_HIGHEST = 2**53
_FILLED = "filled"
"""Attribute of the finals: the leader that has queued them."""


def open_finals(storage: BaseStorage, study: optuna.Study) -> optuna.Study:
    """The study of the finals."""
    return open_study(storage, f"{study.study_name}.finals", {"finals of": study.study_name}, ["maximize"])


def fill(
    finals: optuna.Study, study: optuna.Study, top_k: int, seeds: Sequence[int], leader: Mapping[str, Any]
) -> None:
    """Queue the best settings with these seeds: those that are not there yet, and once more those that have failed."""
    waiting = [trial for trial in counted(finals) if trial.state != TrialState.FAIL]
    there = {_drawn(trial) for trial in [*waiting, *left_over(finals)]}
    best = [trial.number for trial in scored(study)[:top_k]]
    # All settings with one seed first: a search that is stopped has compared something.
    for drawn in [(setting, seed) for seed in seeds for setting in best if (setting, seed) not in there]:
        finals.enqueue_trial(dict(zip((_SETTING, _SEED), drawn, strict=True)))
    finals.set_user_attr(_FILLED, dict(leader))


def is_filled(finals: optuna.Study, leader: Mapping[str, Any]) -> bool:
    """Whether this leader, who does so once, has queued the finals."""
    return bool(finals.user_attrs.get(_FILLED) == leader)


def _drawn(trial: FrozenTrial) -> tuple[int | None, int | None]:
    """Setting and seed of a trial of the finals, which waits or has been begun."""
    given = {**trial.system_attrs.get(FIXED, {}), **trial.params}
    return given.get(_SETTING), given.get(_SEED)


def count(finals: optuna.Study) -> int:
    """How many were asked for: without the trials that continue one that was cut off, or were one too many."""
    beside = {Attribute.RETRY_OF, Attribute.SURPLUS}
    return sum(not beside & set(trial.user_attrs) for trial in finals.get_trials(deepcopy=False))


def settings_of(trial: optuna.Trial, study: optuna.Study) -> dict[str, Any]:
    """The settings that a trial of the finals trains again."""
    return settings(study, trial.suggest_int(_SETTING, 0, _HIGHEST))


def seed_of(trial: optuna.Trial) -> int:
    """The seed that a trial of the finals trains with."""
    return trial.suggest_int(_SEED, 0, _HIGHEST)


def read(finals: optuna.Study, seeds: Collection[int]) -> list[FinalRun]:
    """What came of the finals with these seeds: settings that have others too are not to be ahead for it."""
    return [
        FinalRun(
            setting=trial.params[_SETTING],
            seed=trial.params[_SEED],
            score=trial.value if trial.state == TrialState.COMPLETE else None,
            run_id=run_id(trial) or "",
        )
        for trial in begun(finals)
        if trial.params.get(_SEED) in seeds
    ]
