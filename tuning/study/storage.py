"""Studies in Optuna's storage: opened, compared with what was asked for, and set up to sample and prune."""

import json
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from trainer.core.errors import TuningError
from trainer.core.text_files import truncate_partial_line
from tuning.config import SearchConfig

__all__ = [
    "JOURNAL",
    "STORAGE_VARIABLE",
    "Goal",
    "close_storage",
    "make_pruner",
    "make_sampler",
    "open_storage",
    "open_study",
]

STORAGE_VARIABLE = "OPTUNA_STORAGE"
JOURNAL = "optuna.journal"
_ABOUT = "about"
"""Study attribute: what makes two commands the same search."""
_CONNECT_SECONDS = 10
_LOOK_SECONDS = 0.05
_LOCK_SECONDS = 30
"""After which the journal is taken from a process that has not let go of it: it was killed in the middle of a write."""
_SECRET_OPTIONS = ("password", "sslpassword")
"""Of a database's driver, in the query of a URL."""

Goal = Literal["maximize", "minimize"]


def open_storage(output: Path) -> BaseStorage:
    """The storage of OPTUNA_STORAGE (a database URL), else a journal file in `output`.

    Raises TuningError when it cannot be reached; a password in the URL is never shown.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = os.environ.get(STORAGE_VARIABLE, "")
    if url:
        return _open_database(url)
    try:
        output.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(output / JOURNAL), _JournalLock(str(output / JOURNAL))))
    except Exception as error:
        raise TuningError(
            f"storage of studies must answer, but got output={str(output)!r}: {_first_line(error)}. Correct output."
        ) from error


def _open_database(url: str) -> RDBStorage:
    parsed = _read_url(url)
    arguments = {"connect_timeout": _CONNECT_SECONDS} if parsed.get_backend_name() == "postgresql" else {}
    try:
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True, "connect_args": arguments})
    except Exception as error:  # whatever a driver of a database raises
        place = sqlalchemy.URL.create(
            parsed.drivername, host=parsed.host, port=parsed.port, database=parsed.database
        ).render_as_string()
        secrets = [parsed.password, *(parsed.query.get(name) for name in _SECRET_OPTIONS)]
        said = _first_line(error)
        for secret in filter(None, secrets):
            said = said.replace(str(secret), "***")
        raise TuningError(
            f"storage of studies must answer, but got {place!r}: {said}. Start it, or correct {STORAGE_VARIABLE}."
        ) from None  # the cause may repeat the password


def _read_url(url: str) -> sqlalchemy.URL:
    """The parts of a URL. Raises TuningError, without a word of it, where its password cannot be told from the rest."""
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        parsed = None
    if parsed is None or (parsed.get_backend_name() != "sqlite" and url.count("@") > 1):
        raise TuningError(
            f"{STORAGE_VARIABLE} must be the URL of a database, such as postgresql://user:password@host/studies, but "
            "got another text, not shown for the password in it. In a password, write @ as %40 and / as %2F."
        ) from None
    return parsed


class _JournalLock(JournalFileOpenLock):
    """Optuna's lock. What a full disk or a kill has left of a last line is taken away: it would spoil the next one.

    Not Optuna's default, a symbolic link: with a relative path that of a killed process is waited for without end.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, grace_period=_LOCK_SECONDS)
        self._path = Path(path)

    def acquire(self) -> bool:
        """Wait for the lock; True."""
        self._drop_dangling_link()
        super().acquire()
        try:
            truncate_partial_line(self._path)
        except BaseException:
            self.release()
            raise
        return True

    def _drop_dangling_link(self) -> None:
        """Take away the link that optuna-dashboard locks with, when it was killed: Optuna waits for it without end."""
        link = Path(f"{self._path}.lock")
        while link.is_symlink() and not link.exists():
            with suppress(FileNotFoundError):
                if time.time() - link.lstat().st_mtime > _LOCK_SECONDS:
                    link.unlink()
            time.sleep(_LOOK_SECONDS)


def close_storage(storage: BaseStorage) -> None:
    """Give up the connections of a storage."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def open_study(
    storage: BaseStorage, name: str, about: Mapping[str, Any], goals: Sequence[Goal], prefix: str = ""
) -> optuna.Study:
    """The study of this name, made when there is none; its sampler and pruner are still to be set.

    name: empty makes a new one, `prefix` and a number. about: what it is a search for, as JSON.
    Raises TuningError when a study of the name is about something else.
    """
    if not name:
        return _new_study(storage, about, goals, prefix)
    try:
        study = optuna.create_study(storage=storage, study_name=name, directions=goals)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(storage=storage, study_name=name)
    kept, wanted = study.user_attrs.get(_ABOUT), json.loads(json.dumps(about))
    if kept is None:  # it was made just now, or whoever made it was killed then
        study.set_user_attr(_ABOUT, about)
    elif kept != wanted:
        raise TuningError(
            f"study must be continued as it was begun, but got study={name!r} with {_differences(kept, wanted)}. "
            f"Give the settings it has, or a new name: study={_free_name(storage, name)}."
        )
    return study


def _new_study(storage: BaseStorage, about: Mapping[str, Any], goals: Sequence[Goal], prefix: str) -> optuna.Study:
    while True:
        try:
            study = optuna.create_study(storage=storage, study_name=_free_name(storage, prefix), directions=goals)
        except optuna.exceptions.DuplicatedStudyError:  # somebody else took the number
            continue
        study.set_user_attr(_ABOUT, about)
        return study


def make_sampler(config: SearchConfig, seed: int | None) -> optuna.samplers.BaseSampler:
    """The sampler; without a seed it draws other numbers each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if config.sampler == "tpe":
            # `group` parts a conditional space into the sets of settings that occur together.
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
        if config.sampler == "gp":
            return optuna.samplers.GPSampler(seed=seed)
        if config.sampler == "cmaes":
            return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        return optuna.samplers.RandomSampler(seed=seed)  # a grid is put into the queue, whole


def make_pruner(config: SearchConfig) -> optuna.pruners.BasePruner:
    """The pruner. It is told of scores by the share of the training that is done, in `reports` parts.

    It judges from a third of a training on: warm-up may take a fifth, and the order before says little of that at the
    end (docs/performance.md, "Searching").
    """
    kind, first = config.active_pruner, max(config.reports // 3, 1)
    if kind == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=first, max_resource=config.reports, reduction_factor=2)
    if kind == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=first)
    if kind == "successive_halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=2)
    if kind == "wilcoxon":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.pruners.WilcoxonPruner(p_threshold=0.1)
    return optuna.pruners.NopPruner()


def _differences(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    parts = []
    for name in sorted(kept.keys() | wanted.keys()):
        before, now = kept.get(name), wanted.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            inner = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
            parts += [f"{name} {key}: {before.get(key)!r} then, {now.get(key)!r} now" for key in inner]
        elif before != now:
            parts.append(f"{name}: {before!r} then, {now!r} now")
    return "; ".join(parts)


def _free_name(storage: BaseStorage, name: str) -> str:
    taken = set(optuna.get_all_study_names(storage))
    return next(f"{name}-{number}" for number in range(1, len(taken) + 2) if f"{name}-{number}" not in taken)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
