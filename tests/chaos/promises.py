"""What is promised, how it is attacked, and how often it was kept."""

import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.templates import Templates

__all__ = ["Attack", "Attempt", "Ledger", "Tally"]


@dataclass
class Attempt:
    """One attack on a command, in a scratch folder of its own, with random choices that the seed repeats."""

    name: str
    number: int
    folder: Path
    rng: random.Random
    templates: "Templates"
    findings: list[tuple[str, list[str]]] = field(default_factory=list)
    """Promise and its faults, empty when it was kept."""
    notes: list[str] = field(default_factory=list)
    """What was done, for the reader of a failure."""

    def check(self, promise: str, faults: Iterable[str] | str | None) -> None:
        """Count an attempt on a promise; it is kept when there is no fault."""
        found = [faults] if isinstance(faults, str) else list(faults or ())
        self.findings.append((promise, [fault for fault in found if fault]))

    def note(self, text: str) -> None:
        """Record what was done."""
        self.notes.append(text)


@dataclass(frozen=True)
class Attack:
    """Attacks a command in one way.

    promises: what each attempt may check. share: part of the time that the attack gets, relative to the others.
    obstacle: returns why this machine does not allow the attack; empty when it does.
    """

    name: str
    run: Callable[[Attempt], None]
    promises: tuple[str, ...]
    share: float = 1.0
    obstacle: Callable[[], str] = lambda: ""


@dataclass
class Tally:
    """Attempts and failures of a promise."""

    attempts: int = 0
    failures: int = 0


class Ledger:
    """Counts of every promise, filled by several threads."""

    def __init__(self, attacks: Iterable[Attack]) -> None:
        self.tallies: dict[tuple[str, str], Tally] = {}
        for attack in attacks:
            for promise in attack.promises:
                self.tallies.setdefault((family_of(attack.name), promise), Tally())
        self._lock = threading.Lock()

    def count(self, attempt: Attempt) -> list[str]:
        """Add the findings of an attempt; return its failures, `promise: fault`."""
        failed = []
        with self._lock:
            for promise, faults in attempt.findings:
                tally = self.tallies[family_of(attempt.name), promise]
                tally.attempts += 1
                tally.failures += bool(faults)
                failed += [f"{promise}: {fault}" for fault in faults]
        return failed

    @property
    def untried(self) -> list[tuple[str, str]]:
        """Family and name of the promises that were not attacked."""
        return [name for name, tally in self.tallies.items() if not tally.attempts]

    @property
    def is_kept(self) -> bool:
        """Whether each promise was attacked and none was broken."""
        return not self.untried and not any(tally.failures for tally in self.tallies.values())


def family_of(name: str) -> str:
    """Return `kills` for `kills/train`."""
    return name.partition("/")[0]
