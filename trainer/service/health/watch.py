"""Runs the checks again and again, each in a thread of its own, and says when a state changes."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from trainer.service.health.checks import Check, Result, State

__all__ = ["Alarm", "Watched", "change_of", "watch"]

_SECONDS_BETWEEN = 10.0
_SILENCE = 45.0
"""A check that gives no result for so long hangs, and its part with it."""
# Looks in a row that have to find a state before it is said: a part that is being restarted, or loads, is no event.
_CONFIRMED: Mapping[State, int] = {"ok": 2, "warning": 6, "dead": 2}
_log = logging.getLogger(__name__)


class Watched:
    """A check and its last result."""

    def __init__(self, name: str, check: Check) -> None:
        self.name, self._check = name, check
        self._result: Result | None = None
        self._at = time.monotonic()
        self.runs = 0

    def run(self) -> None:
        """Check once."""
        try:
            result = self._check()
        except Exception as error:  # each part fails in its own way
            _log.warning("%s: %s: %s", self.name, type(error).__name__, error)
            result = Result("dead", f"does not answer ({type(error).__name__})")
        self._result, self._at = result, time.monotonic()
        self.runs += 1

    @property
    def result(self) -> Result:
        """The last result; dead when the check hangs."""
        silent = time.monotonic() - self._at
        if silent > _SILENCE:
            return Result("dead", f"has not answered for {silent:.0f} seconds")
        return self._result or Result("warning", "is being checked")


@dataclass
class Alarm:
    """What was last said about a part."""

    said: State = "ok"
    since: datetime | None = None
    other: int = 0
    """How many looks in a row have found another state than the one that was said."""


def watch(parts: Mapping[str, Watched], say: Callable[[str], None], *, host: str) -> None:
    """Run the checks in threads, and look at the states until the process ends."""
    for part in parts.values():
        threading.Thread(target=_repeat, args=(part,), name=f"check-{part.name}", daemon=True).start()
    alarms = {name: Alarm() for name in parts}
    while True:
        time.sleep(_SECONDS_BETWEEN)
        for name, part in parts.items():
            text = change_of(name, alarms[name], part.result, datetime.now().astimezone())
            if text:
                say(f"{host}: {text}")


def change_of(name: str, alarm: Alarm, result: Result, now: datetime) -> str:
    """Return a sentence when the part is, in several looks in a row, in another state than was last said; else ""."""
    if result.state == alarm.said:
        alarm.other = 0
        return ""
    alarm.other += 1
    if alarm.other < _CONFIRMED[result.state]:
        return ""
    began, alarm.said, alarm.other = alarm.since, result.state, 0
    text = result.text.rstrip(".")
    if result.state == "ok":
        alarm.since = None
        minutes = (now - began).total_seconds() / 60 if began else 0
        return f"{name} is well again, after {minutes:.0f} minutes: {text}."
    alarm.since = began or now
    return f"{'ALERT' if result.state == 'dead' else 'Warning'}: {name}: {text}."


def _repeat(part: Watched) -> None:
    while True:
        part.run()
        time.sleep(_SECONDS_BETWEEN)
