"""Lets one command at a time lead a study. Workers hold no lock."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy
from optuna.storages import RDBStorage

from trainer.core.errors import TuningError
from tuning.study.storage import STORAGE_VARIABLE

__all__ = ["is_led", "lead"]


@contextmanager
def lead(storage: RDBStorage, study_name: str) -> Iterator[None]:
    """Hold the lock of a study in the block; the operating system or PostgreSQL frees it when this process dies.

    Raises TuningError while another command holds it.
    """
    with _attempt(storage, study_name, is_shared=False) as is_free:
        if not is_free:
            raise TuningError(
                f"Another command already runs study {study_name}. Add workers to it with worker=true, or wait for "
                "its end."
            )
        yield


def is_led(storage: RDBStorage, study_name: str) -> bool:
    """Return True while a command holds the lock of the study."""
    # Shared: workers that look at the same moment must not take each other for a leader.
    with _attempt(storage, study_name, is_shared=True) as is_free:
        return not is_free


@contextmanager
def _attempt(storage: RDBStorage, study_name: str, *, is_shared: bool) -> Iterator[bool]:
    attempts = {"sqlite": _lock_file, "postgresql": _lock_in_database}
    backend = storage.engine.url.get_backend_name()
    if backend not in attempts:
        raise TuningError(f"`{STORAGE_VARIABLE}` must be a PostgreSQL or SQLite database, got {backend}.")
    with attempts[backend](storage, study_name, is_shared) as is_free:
        yield is_free


@contextmanager
def _lock_file(storage: RDBStorage, study_name: str, is_shared: bool) -> Iterator[bool]:
    database = Path(str(storage.engine.url.database))
    # A name of a study may have `/`.
    safe = "".join(letter if letter.isalnum() else f"%{ord(letter):x}" for letter in study_name)
    descriptor = os.open(database.with_name(f".{database.name}.{safe}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        is_free = True
        try:
            # Not lockf, whose lock ends when any descriptor of this file is closed in the process.
            fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            is_free = False
        yield is_free
    finally:
        os.close(descriptor)  # the file remains: with a new one, two commands could have a lock each


@contextmanager
def _lock_in_database(storage: RDBStorage, study_name: str, is_shared: bool) -> Iterator[bool]:
    """Take PostgreSQL's advisory lock, which belongs to the connection."""
    function = "pg_try_advisory_lock_shared" if is_shared else "pg_try_advisory_lock"
    statement = sqlalchemy.text(f"select {function}(hashtextextended(:name, 0))")  # the lock takes a number, not a name
    with storage.engine.connect() as connection:
        is_free = bool(connection.execute(statement, {"name": study_name}).scalar())
        connection.commit()  # the lock is that of the session: no transaction stays open for hours
        try:
            yield is_free
        finally:
            connection.invalidate()  # closes it, which frees the lock; it must not return to the pool
