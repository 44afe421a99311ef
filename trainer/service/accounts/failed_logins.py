"""Counts wrong logins, so that who sends them cannot keep the server busy: each check of a password takes 30 ms."""

import threading
import time
from collections.abc import Callable

from cachetools import TTLCache

__all__ = ["SECONDS", "FailedLogins"]

SECONDS = 10
_FAILURES = 10
_REMEMBERED_SECONDS = 3600
_SOURCES = 1000
_LOGINS = 10_000

Source = tuple[str, str]
"""Address and user name."""
Login = tuple[str, bytes]
"""User name and digest of the password."""


class FailedLogins:
    """The wrong logins of each source in the last seconds, and the logins that were right in the last hour."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._failures: TTLCache[Source, int] = TTLCache(_SOURCES, SECONDS, timer)
        self._right: TTLCache[Login, bool] = TTLCache(_LOGINS, _REMEMBERED_SECONDS, timer)

    def is_refused(self, source: Source, login: Login) -> bool:
        """Return whether this login is not to be checked: its source failed too often, and it was not right lately.

        The second lets a client in that shares address and user name with one that has a wrong password.
        """
        with self._lock:
            return self._failures.get(source, 0) >= _FAILURES and login not in self._right

    def add(self, source: Source, login: Login, *, is_right: bool) -> None:
        """Count the result of a check."""
        with self._lock:
            if is_right:
                self._right[login] = True
            else:
                self._failures[source] = self._failures.get(source, 0) + 1
                self._right.pop(login, None)
