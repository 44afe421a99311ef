"""Storages and studies of Optuna: opened, compared with a request, and created."""

import json
import os
import shlex
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import optuna
import sqlalchemy
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import RDBStorage

from trainer.config import TrainConfig
from trainer.core.errors import TuningError, shorten
from trainer.core.run_folder import RUNTIME_AND_DATASET, diff_settings, format_diff
from trainer.core.settings import flatten, quote
from tuning.config import TuneConfig
from tuning.study.trials import GRACE_SECONDS, make_retry_callback

__all__ = [
    "ABOUT",
    "DATABASE",
    "RUN",
    "STORAGE_VARIABLE",
    "Direction",
    "close_storage",
    "create_numbered_study",
    "create_or_load_study",
    "is_default",
    "load_study",
    "name_objectives",
    "open_storage",
]

STORAGE_VARIABLE = "OPTUNA_STORAGE"
DATABASE = "optuna.db"
HEARTBEAT_SECONDS = 15  # a quarter of GRACE_SECONDS: a few may be missed
ABOUT = "about"
"""Study attribute: the settings that make two commands the same search."""
RUN = "run_id"
"""Study attribute: the MLflow run of the search."""
_COMMAND = "command"
"""In `about`: the command of the study; searches have none."""
_CONNECT_SECONDS = 10
_SQLITE_LOCK_SECONDS = 60  # workers write one after another; the default is 5
_SECRET_OPTIONS = ("password", "sslpassword")
"""Options in the query of a database URL."""

_WITHOUT_STORAGE = f"Unset it to keep studies in `output`/{DATABASE}, which takes over an older optuna.journal there."

Direction = Literal["maximize", "minimize"]


class _Storage(RDBStorage):
    """Optuna's storage, whose heartbeats survive a database that is away for a moment."""

    def record_heartbeat(self, trial_id: int) -> None:
        """Record one heartbeat; a missed one is followed by the next."""
        with suppress(StorageInternalError):  # it would end Optuna's thread, and with it all later heartbeats
            super().record_heartbeat(trial_id)


def open_storage(output: Path) -> RDBStorage:
    """Return the storage of the database OPTUNA_STORAGE, else of a SQLite file in `output`.

    Raises TuningError, without its password, for a database that does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    text = os.environ.get(STORAGE_VARIABLE, "")
    url = _read_url(text) if text else sqlalchemy.URL.create("sqlite", database=str(output / DATABASE))
    is_sqlite = url.get_backend_name() == "sqlite"
    arguments = {"timeout": _SQLITE_LOCK_SECONDS} if is_sqlite else {"connect_timeout": _CONNECT_SECONDS}
    try:
        if not text:
            output.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats
            storage = _Storage(
                url.render_as_string(hide_password=False),  # Optuna takes no URL object
                # Between two trials, a server may close a connection that is idle.
                engine_kwargs={"pool_pre_ping": True, "connect_args": arguments},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
                heartbeat_stale_trial_callback=make_retry_callback(),
            )
    except sqlalchemy.exc.NoSuchModuleError:
        raise TuningError(
            f"`{STORAGE_VARIABLE}` must be the URL of a database that SQLAlchemy knows, such as postgresql:// or "
            f"sqlite:///, got {_shown(url)}. {_WITHOUT_STORAGE}"
        ) from None
    except Exception as error:  # drivers of databases raise classes of their own
        raise TuningError(
            f"Cannot open the studies in {_shown(url)}: {_without_secrets(error, url)}. "
            f"Start the database, or correct `{STORAGE_VARIABLE}` or `output`."
        ) from None  # the cause may repeat the password
    if is_sqlite:
        _serialise_transactions(storage)
    return storage


def is_default(storage: RDBStorage, output: Path) -> bool:
    """Return True for the SQLite file in `output`."""
    return storage.engine.url.database == str(output / DATABASE)


def close_storage(storage: RDBStorage) -> None:
    """Close the connections of a storage."""
    storage.remove_session()
    storage.engine.dispose()


def create_or_load_study(
    storage: RDBStorage, name: str, about: Mapping[str, Any], directions: Sequence[Direction], *, setting: str = "study"
) -> optuna.Study:
    """Return the study of this name, or a new one. Its sampler and pruner are not set.

    about: JSON values that make it the same search. setting: the one that names it.
    Raises TuningError when the study is about something else.
    """
    try:
        study = optuna.create_study(storage=storage, study_name=name, directions=directions)
    except DuplicatedStudyError:  # created first and not looked up: two commands may begin together
        study = optuna.load_study(storage=storage, study_name=name)
    _check_about(storage, study, about, setting)
    return study


def name_objectives(study: optuna.Study, metrics: Sequence[str]) -> None:
    """Store the metric of each objective, which optuna-dashboard shows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if study.metric_names != list(metrics):
            study.set_metric_names(list(metrics))


def load_study(storage: RDBStorage, name: str, about: Mapping[str, Any], *, setting: str = "study") -> optuna.Study:
    """Return an existing study. Raises TuningError when there is none, or when it is about something else."""
    try:
        study = optuna.load_study(storage=storage, study_name=name)
    except KeyError:
        names = ", ".join(sorted(optuna.get_all_study_names(storage))) or "none"
        raise TuningError(
            f"`{setting}` must exist for worker=true, got {quote(name) if name else 'no name'}. "
            f"Studies there: {shorten(names)}. Start the command without worker=true first."
        ) from None
    _check_about(storage, study, about, setting)
    return study


def _check_about(storage: RDBStorage, study: optuna.Study, about: Mapping[str, Any], setting: str) -> None:
    kept, wanted = study.user_attrs.get(ABOUT), json.loads(json.dumps(about))  # as the database returns it
    if kept is None:  # the study is new, or the command that created it was killed before it could store them
        study.set_user_attr(ABOUT, about)
    elif differences := _differences(kept, wanted):
        raise TuningError(
            f"Cannot continue {setting} {study.study_name}: its settings differ ({differences}). Give its settings "
            f"again, or a new name: {shlex.quote(f'{setting}={_free_name(storage, study.study_name)}')}."
        )


def create_numbered_study(
    storage: RDBStorage,
    prefix: str,
    about: Mapping[str, Any],
    directions: Sequence[Direction],
    *,
    taken: Collection[str] = (),
) -> optuna.Study:
    """Create a study named `prefix` and the first free number. taken: names that are not free elsewhere."""
    while True:
        with suppress(DuplicatedStudyError):  # another command took the number
            name = _free_name(storage, prefix, taken)
            study = optuna.create_study(storage=storage, study_name=name, directions=directions)
            study.set_user_attr(ABOUT, about)
            return study


def _read_url(text: str) -> sqlalchemy.URL:
    """Return a database URL; a text whose password cannot be told from the rest is an error that does not show it."""
    try:
        url = sqlalchemy.make_url(text)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        url = None
    if url is None or (url.get_backend_name() != "sqlite" and text.count("@") > 1):
        raise TuningError(
            f"`{STORAGE_VARIABLE}` must be a database URL such as postgresql://user:password@host/studies or "
            "sqlite:////folder/studies.db. The value is not shown because it may contain a password. In a password, "
            f"write @ as %40 and / as %2F. {_WITHOUT_STORAGE}"
        ) from None
    advice = _advice(url)
    if advice:
        raise TuningError(f"`{STORAGE_VARIABLE}` must name a database that keeps studies, got {_shown(url)}. {advice}")
    return url


def _advice(url: sqlalchemy.URL) -> str:
    """Return what to write in place of a URL that is often given and never works; empty for others."""
    backend = url.get_backend_name()
    if backend == "postgres":  # Heroku and older libraries write it so
        return "Write postgresql:// in place of postgres://."
    if backend == "journal":
        return _WITHOUT_STORAGE
    in_memory = url.database in (None, "", ":memory:") or "mode" in url.query
    if backend == "sqlite" and in_memory:
        return f"A database in memory ends with its process: write sqlite:////folder/studies.db. {_WITHOUT_STORAGE}"
    return ""


def _serialise_transactions(storage: RDBStorage) -> None:
    """Let SQLite transactions lock the file from their beginning.

    Optuna relies on `select for update`, which SQLite ignores: two workers would take the same waiting trial.
    Recipe: https://docs.sqlalchemy.org/en/20/dialects/sqlite.html, "Serializable isolation".
    """
    storage.remove_session()
    storage.engine.dispose()  # connections that are open already

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def _leave_transactions_to_us(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # else the driver begins transactions itself, without the lock

    @sqlalchemy.event.listens_for(storage.engine, "begin")
    def _lock(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # a lock after the first read can fail without waiting


def _differences(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return the values in which two searches differ. A setting that `kept` lacks is newer and has its default."""
    defaults = {**flatten(TuneConfig()), "settings": {}, "space": {}}
    if commands := {about.get(_COMMAND, "tune") for about in (kept, wanted)} - {wanted.get(_COMMAND, "tune")}:
        return f"it is a study of {commands.pop()}"
    parts = []
    for name in sorted(kept.keys() | wanted.keys()):
        before, now = (_plain(about.get(name, defaults.get(name))) for about in (kept, wanted))
        if name == "settings":
            found = diff_settings(before, now, flatten(TrainConfig()), ignore=RUNTIME_AND_DATASET)
        elif isinstance(before, dict) and isinstance(now, dict):
            names = sorted(before.keys() | now.keys())
            found = {f"{name} {key}": (before.get(key), now.get(key)) for key in names}
        else:
            found = {name: (before, now)}
        parts += [format_diff({key: pair}) for key, pair in found.items() if pair[0] != pair[1]]
    return "; ".join(parts)


def _plain(value: object) -> Any:
    return ",".join(map(str, value)) if isinstance(value, list) else value


def _free_name(storage: optuna.storages.BaseStorage, name: str, others: Collection[str] = ()) -> str:
    taken = {*optuna.get_all_study_names(storage), *others}
    return next(f"{name}-{number}" for number in range(1, len(taken) + 2) if f"{name}-{number}" not in taken)


def _shown(url: sqlalchemy.URL) -> str:
    """Return the URL without user, password and options, any of which may be secret."""
    return sqlalchemy.URL.create(url.drivername, host=url.host, port=url.port, database=url.database).render_as_string()


def _without_secrets(error: Exception, url: sqlalchemy.URL) -> str:
    text = str(error).strip().partition("\n")[0]
    for secret in filter(None, [url.password, *(url.query.get(name) for name in _SECRET_OPTIONS)]):
        text = text.replace(str(secret), "***")
    return text
