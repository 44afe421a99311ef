"""Imports studies of version 1, which kept them in a journal file in `output`."""

from datetime import datetime
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from tuning.study.storage import ABOUT, is_default
from tuning.study.trials import Attribute

__all__ = ["JOURNAL", "import_study", "names_in_journal"]

JOURNAL = "optuna.journal"
_FINALS = ".finals"


def names_in_journal(output: Path, storage: RDBStorage) -> list[str]:
    """Return the names of the studies in the journal in `output`; none where the storage is elsewhere."""
    if not is_default(storage, output) or not (output / JOURNAL).is_file():
        return []
    return optuna.get_all_study_names(_open(output))


def import_study(output: Path, storage: RDBStorage, name: str) -> bool:
    """Copy a study and its finals from the journal in `output`, once; return True when it was copied now."""
    known = names_in_journal(output, storage)
    if name not in known or _is_complete(storage, name):
        return False
    journal = _open(output)
    if f"{name}{_FINALS}" in known:  # before the study, whose attribute completes the import
        finals = optuna.load_study(study_name=f"{name}{_FINALS}", storage=journal)
        # The others are queued again by `enqueue`.
        _copy(finals, [_final(trial) for trial in finals.get_trials() if trial.state == TrialState.COMPLETE], storage)
    study = optuna.load_study(study_name=name, storage=journal)
    _copy(study, [_interrupted_if_running(trial) for trial in study.get_trials()], storage)
    return True


def _open(output: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(output / JOURNAL)))


def _is_complete(storage: BaseStorage, name: str) -> bool:
    """Return True for a study that has its attributes, which are copied last."""
    names = optuna.get_all_study_names(storage)
    return name in names and ABOUT in optuna.load_study(study_name=name, storage=storage).user_attrs


def _copy(study: optuna.Study, trials: list[FrozenTrial], storage: BaseStorage) -> None:
    name = study.study_name
    if name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=name, storage=storage)  # a command was killed while it copied
    made = optuna.create_study(study_name=name, storage=storage, directions=study.directions)
    made.add_trials(trials)
    for key, value in sorted(study.user_attrs.items(), key=lambda attribute: attribute[0] == ABOUT):
        made.set_user_attr(key, value)


def _interrupted_if_running(trial: FrozenTrial) -> FrozenTrial:
    if trial.state == TrialState.RUNNING:
        trial.state, trial.datetime_complete = TrialState.FAIL, datetime.now()  # without a cause: it is retried
    return trial


def _final(trial: FrozenTrial) -> FrozenTrial:
    """Return a final of version 1, which has its source trial and seed as parameters, with both as attributes."""
    trial.user_attrs |= {Attribute.SOURCE: trial.params["setting"], Attribute.SEED: trial.params["seed"]}
    return trial
