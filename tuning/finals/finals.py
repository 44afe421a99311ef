"""The finals: the best trials of a search, trained again with fresh seeds.

They are trials of a second study, NAME.finals, so that workers share them and a kill loses none. It belongs to one
search by the id of the search's run: the name may be given again after the search was deleted.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import count as numbers
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from tuning.finals.statistics import FinalRun
from tuning.study.storage import ABOUT, RUN, create_or_load_study
from tuning.study.trials import Attribute, counted, run_id, scored, settings, started

__all__ = ["count", "enqueue", "find_finals", "open_finals", "results", "seed_of"]

_SEARCH, _SEARCH_RUN = "finals of", "run"


def open_finals(storage: RDBStorage, search: optuna.Study) -> optuna.Study:
    """Return the study of the finals of a search, created if there is none."""
    found = find_finals(storage, search)
    if found is not None:
        return found
    taken = optuna.get_all_study_names(storage)
    return create_or_load_study(storage, _first_free(search, taken), _about(search), ["maximize"])


def find_finals(storage: BaseStorage, search: optuna.Study) -> optuna.Study | None:
    """Return the study of the finals of a search; None before it is created."""
    first, about = f"{search.study_name}.finals", _about(search)
    for name in sorted(optuna.get_all_study_names(storage)):
        if name != first and not name.startswith(f"{first}-"):
            continue
        finals = optuna.load_study(storage=storage, study_name=name)
        kept = finals.user_attrs.get(ABOUT)
        if kept == about:
            return finals
        # Older versions stored no run, and a command that was killed nothing.
        if (kept is None or kept == {_SEARCH: search.study_name}) and _began_after_their_trials(finals, search):
            finals.set_user_attr(ABOUT, about)
            return finals
    return None


def enqueue(finals: optuna.Study, study: optuna.Study, top_k: int, seeds: Sequence[int]) -> None:
    """Queue the best trials with each of these seeds, except finals that are there already and have not failed."""
    existing = {_key(trial) for trial in finals.get_trials(deepcopy=False) if trial.state != TrialState.FAIL}
    # All trials with one seed first: a search that is stopped has compared something.
    missing = [(seed, trial) for seed in seeds for trial in scored(study)[:top_k]]
    finals.add_trials([_waiting(study, trial, seed) for seed, trial in missing if (trial.number, seed) not in existing])


def count(finals: optuna.Study) -> int:
    """Return how many finals there are in all."""
    return len(counted(finals))


def seed_of(trial: optuna.Trial | FrozenTrial) -> int:
    """Return the seed that a trial of the finals trains with."""
    return int(trial.user_attrs[Attribute.SEED])


def results(finals: optuna.Study, seeds: Collection[int]) -> list[FinalRun]:
    """Return the finals with these seeds; other seeds, of an earlier command, would favour the trials that had them."""
    return [
        FinalRun(
            trial=trial.user_attrs[Attribute.SOURCE],
            seed=seed_of(trial),
            score=trial.value if trial.state == TrialState.COMPLETE else None,
            run_id=run_id(trial) or "",
        )
        for trial in started(finals)
        if seed_of(trial) in seeds
    ]


def _about(search: optuna.Study) -> Mapping[str, Any]:
    return {_SEARCH: search.study_name, _SEARCH_RUN: search.user_attrs[RUN]}


def _first_free(search: optuna.Study, taken: Collection[str]) -> str:
    first = f"{search.study_name}.finals"
    others = (f"{first}-{number}" for number in numbers(2))
    return first if first not in taken else next(name for name in others if name not in taken)


def _began_after_their_trials(finals: optuna.Study, search: optuna.Study) -> bool:
    """Return True unless a final repeats a trial that the search does not have or that ended later."""
    ended = {trial.number: trial.datetime_complete for trial in scored(search)}
    for final in finals.get_trials(deepcopy=False):
        end, start = ended.get(final.user_attrs.get(Attribute.SOURCE, -1)), final.datetime_start
        if end is None or (start is not None and start < end):
            return False
    return True


def _key(trial: FrozenTrial) -> tuple[int, int]:
    return trial.user_attrs[Attribute.SOURCE], seed_of(trial)


def _waiting(study: optuna.Study, source: FrozenTrial, seed: int) -> FrozenTrial:
    """Return a waiting trial with the parameters and settings of `source`."""
    return optuna.trial.create_trial(
        state=TrialState.WAITING,
        params=source.params,
        distributions=source.distributions,
        user_attrs={
            Attribute.SOURCE: source.number,
            Attribute.SEED: seed,
            Attribute.SETTINGS: settings(study, source.number),
        },
    )
