"""Who works on a study: drivers, on this machine or others, and which of their trials were left behind.

A driver says with each of its trials who it is, and raises a number there every few seconds. On the same machine one
that is gone is seen at once; elsewhere by its number, which has stood still for too long by the observer's clock.
"""

import functools
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

__all__ = ["BEAT_SECONDS", "STALE_SECONDS", "Watch", "host", "identity", "is_here"]

BEAT_SECONDS = 15.0
STALE_SECONDS = 120.0
_CLOCK_SECONDS = 60.0
"""By which the time of a process's start may seem to move: it is told by the clock, which is corrected."""


def identity() -> dict[str, Any]:
    """What names the present process, so that another one can tell whether it is still there."""
    return {"machine": _machine(), "pid": os.getpid(), "started": _started(os.getpid())}


def is_here(driver: Mapping[str, Any]) -> bool:
    """Whether the driver is, or was, a process of this machine."""
    return bool(driver["machine"] == _machine())


def host(driver: Mapping[str, Any]) -> str:
    """Name of its machine as people know it."""
    return str(driver["machine"]).partition(" ")[0]


class Watch:
    """Sees drivers that are gone. Ask about each of them again and again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: dict[str, object] = {}
        self._seen: dict[str, tuple[object, float]] = {}

    def is_gone(self, key: str, driver: Mapping[str, Any] | None, beat: object) -> bool:
        """Whether the driver is surely gone. key: what is watched, such as a trial; beat: its number as it is now."""
        if driver is not None and is_here(driver):
            return not _is_running(driver)
        now = self._clock()
        self._first.setdefault(key, beat)
        last, since = self._seen.get(key, (beat, now))
        if key not in self._seen or last != beat:
            self._seen[key] = (beat, now)
            return False
        return now - since > STALE_SECONDS

    def has_stirred(self, key: str) -> bool:
        """Whether the number has changed since it was first seen."""
        return key in self._seen and self._seen[key][0] != self._first[key]


@functools.cache
def _started(pid: int) -> float:
    """Told once: later it may be another number, since the clock is corrected."""
    return float(psutil.Process(pid).create_time())


def _machine() -> str:
    """Name of the machine, on Linux with its boot and the container's processes: machines may be made alike.

    After a reboot it is another machine: what it did before is seen like work elsewhere.
    """
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    known = [boot.read_text(encoding="ascii").strip(), str(namespace.readlink())] if boot.exists() else []
    return " ".join([socket.gethostname(), *known])


def _is_running(driver: Mapping[str, Any]) -> bool:
    if driver["pid"] == os.getpid():  # a container that is started again may give the same number at once
        return driver == identity()
    try:
        process = psutil.Process(driver["pid"])
        is_same: bool = abs(process.create_time() - driver["started"]) < _CLOCK_SECONDS
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
