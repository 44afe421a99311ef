"""Lets one command at a time lead a study. Workers hold no lock."""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import sqlalchemy
from optuna.storages import RDBStorage

from trainer.core.errors import TuningError
from tuning.study.storage import STORAGE_VARIABLE

__all__ = ["Lead", "is_led", "lead"]

_IsAlive = Callable[[], bool]


class Lead:
    """The lock of a study, held by this command. PostgreSQL frees it when it restarts or loses the connection."""

    def __init__(self, storage: RDBStorage, study_name: str) -> None:
        self._storage, self._study_name = storage, study_name
        self._mutex = threading.Lock()  # trials of several threads end together
        self._held = ExitStack()
        self._is_alive: _IsAlive = _is_lost
        self._take()

    def keep(self) -> None:
        """Take the lock again if it was lost. Raises TuningError when another command has it by now."""
        with self._mutex:
            if not self._is_alive():
                self.release()
                self._take()

    def release(self) -> None:
        """Give the lock up."""
        self._is_alive = _is_lost
        self._held.close()

    def _take(self) -> None:
        with ExitStack() as attempt:
            is_alive = attempt.enter_context(_attempt(self._storage, self._study_name, is_shared=False))
            if is_alive is None:
                raise TuningError(
                    f"Another command already runs study {self._study_name}. Add workers to it with worker=true, or "
                    "wait for its end."
                )
            self._held, self._is_alive = attempt.pop_all(), is_alive


def _is_lost() -> bool:
    return False


@contextmanager
def lead(storage: RDBStorage, study_name: str) -> Iterator[Lead]:
    """Hold the lock of a study in the block; the operating system or PostgreSQL frees it when this process dies.

    Raises TuningError while another command holds it.
    """
    held = Lead(storage, study_name)
    try:
        yield held
    finally:
        held.release()


def is_led(storage: RDBStorage, study_name: str) -> bool:
    """Return True while a command holds the lock of the study."""
    # Shared: workers that look at the same moment must not take each other for a leader.
    with _attempt(storage, study_name, is_shared=True) as is_alive:
        return is_alive is None


@contextmanager
def _attempt(storage: RDBStorage, study_name: str, *, is_shared: bool) -> Iterator[_IsAlive | None]:
    """Give a function that tells whether the lock is still held; None when another command has it."""
    attempts = {"sqlite": _lock_file, "postgresql": _lock_in_database}
    backend = storage.engine.url.get_backend_name()
    if backend not in attempts:
        raise TuningError(f"`{STORAGE_VARIABLE}` must be a PostgreSQL or SQLite database, got {backend}.")
    with attempts[backend](storage, study_name, is_shared) as is_alive:
        yield is_alive


@contextmanager
def _lock_file(storage: RDBStorage, study_name: str, is_shared: bool) -> Iterator[_IsAlive | None]:
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
        yield (lambda: True) if is_free else None
    finally:
        os.close(descriptor)  # the file remains: with a new one, two commands could have a lock each


@contextmanager
def _lock_in_database(storage: RDBStorage, study_name: str, is_shared: bool) -> Iterator[_IsAlive | None]:
    """Take PostgreSQL's advisory lock, which belongs to the connection."""
    function = "pg_try_advisory_lock_shared" if is_shared else "pg_try_advisory_lock"
    statement = sqlalchemy.text(f"select {function}(hashtextextended(:name, 0))")  # the lock takes a number, not a name
    with storage.engine.connect() as connection:
        is_free = bool(connection.execute(statement, {"name": study_name}).scalar())
        connection.commit()  # the lock is that of the session: no transaction stays open for hours

        def is_alive() -> bool:
            try:
                connection.execute(sqlalchemy.text("select 1"))
                connection.commit()
            except sqlalchemy.exc.DBAPIError:
                return False
            return True

        try:
            yield is_alive if is_free else None
        finally:
            connection.invalidate()  # closes it, which frees the lock; it must not return to the pool
