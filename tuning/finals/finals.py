"""The finals: the best trials of a search, trained again with fresh seeds.

They are trials of a second study, NAME.finals, so that workers share them and a kill loses none.
"""

from collections.abc import Collection, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuning.finals.statistics import FinalRun
from tuning.study.trials import Attribute, counted, run_id, scored, settings, started

__all__ = ["count", "enqueue", "finals_name", "results", "seed_of"]


def finals_name(study_name: str) -> str:
    """Return the name of the study of the finals."""
    return f"{study_name}.finals"


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
