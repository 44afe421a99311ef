"""Attack every command and count what held: `make chaos`, or `python -m tests.chaos.run --only kills --minutes 5`.

Kills, outages, full disks, signals, mutated inputs and planted secrets, chosen by a seed that is printed. The exit
status is 1 when a promise was broken, or was not attacked at all. The folder of a failed attempt is kept.
"""

import argparse
import random
import secrets
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.chaos import disks, inputs, kills, outages, planted, searches, signals, table
from tests.chaos.commands import ROOT
from tests.chaos.promises import Attack, Attempt, Ledger, family_of
from tests.chaos.templates import TemplateError, Templates

__all__ = ["ATTACKS", "Session", "main"]

_FAMILIES = (kills, searches, signals, outages, disks, inputs, planted)
ATTACKS: tuple[Attack, ...] = tuple(attack for family in _FAMILIES for attack in family.ATTACKS)
_MAX_FAILURES = 40  # more tell nothing new
_SHOWN = 6
PAGE = ROOT / "docs" / "reliability.md"


class Session:
    """Runs attacks in threads until the time is over and each has had its smallest number of attempts."""

    def __init__(self, attacks: Sequence[Attack], seed: int, folder: Path) -> None:
        self.seed, self.folder = seed, folder
        self.obstacles = {attack.name: attack.obstacle() for attack in attacks}
        self.attacks = [attack for attack in attacks if not self.obstacles[attack.name]]
        self.ledger = Ledger(attacks)
        self.failures: list[str] = []
        self._templates = Templates(folder / "templates")
        self._started = {attack.name: 0 for attack in self.attacks}
        self._spent = {attack.name: 0.0 for attack in self.attacks}
        self._lock = threading.Lock()

    def run_for(self, seconds: float, workers: int, least: int = 1) -> None:
        """Attack for about `seconds`, and each attack at least `least` times."""
        end = time.monotonic() + seconds

        def work() -> None:
            while len(self.failures) < _MAX_FAILURES and (chosen := self._choose(time.monotonic() < end, least)):
                self.run_one(*chosen)

        with ThreadPoolExecutor(workers) as pool:
            for future in [pool.submit(work) for _ in range(workers)]:
                future.result()

    def close(self) -> None:
        """Stop what the templates have started."""
        self._templates.close()

    def run_one(self, attack: Attack, number: int) -> None:
        """Run one attempt, and keep its folder when it fails."""
        folder = self.folder / f"{attack.name.replace('/', '-')}-{number}"
        rng = random.Random(f"{self.seed}/{attack.name}/{number}")
        attempt = Attempt(attack.name, number, folder, rng, self._templates)
        began = time.monotonic()
        try:
            attack.run(attempt)
        except TemplateError:
            raise
        except Exception:  # an attack that cannot look is no kept promise
            attempt.check(attack.promises[0], f"the attack itself failed: {traceback.format_exc()}")
        self._spent[attack.name] += time.monotonic() - began
        failed = self.ledger.count(attempt)
        if not failed:
            shutil.rmtree(folder, ignore_errors=True)
            return
        shown = [*failed[:_SHOWN], *([f"and {len(failed) - _SHOWN} more"] if len(failed) > _SHOWN else [])]
        command = f"python -m tests.chaos.run --seed {self.seed} --only {attack.name} --attempt {number}"
        lines = [f"BROKEN {attack.name} {number}", *attempt.notes, *shown, f"left in {folder}", f"again: {command}"]
        with self._lock:
            self.failures.append("\n    ".join(lines))
            print(self.failures[-1], flush=True)

    def _choose(self, has_time: bool, least: int) -> tuple[Attack, int] | None:
        with self._lock:
            waiting = [attack for attack in self.attacks if self._started[attack.name] < least]
            candidates = waiting or (self.attacks if has_time else [])
            if not candidates:
                return None
            attack = min(candidates, key=lambda one: (self._spent[one.name] / one.share, self._started[one.name]))
            self._started[attack.name] += 1
            self._spent[attack.name] += 0.01  # so that a second thread chooses another
            return attack, self._started[attack.name]


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 when every promise was attacked and kept."""
    options = _parse(argv)
    chosen = [attack for attack in ATTACKS if _is_chosen(attack, options.only)]
    if not chosen:
        print(f"--only must name one of {', '.join(attack.name for attack in ATTACKS)}", file=sys.stderr)
        return 2
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir=options.folder))
    print(f"seed {options.seed}, folder {folder}", flush=True)
    session = Session(chosen, options.seed, folder)
    try:
        if options.attempt:
            for attack in session.attacks:
                session.run_one(attack, options.attempt)
        else:
            session.run_for(options.minutes * 60, options.workers)
    finally:
        session.close()
    remarks = [f"{name}: skipped, {reason}" for name, reason in session.obstacles.items() if reason]
    print("\n".join([table.as_text(session.ledger), *remarks]))
    if options.write:
        table.write_page(PAGE, session.ledger, remarks)
    if not session.failures:
        shutil.rmtree(folder)
    untried = [] if options.attempt else session.ledger.untried
    print(f"{len(session.failures)} attempts broke a promise, {len(untried)} promises were not attacked")
    return 1 if session.failures or untried else 0


def _is_chosen(attack: Attack, only: str) -> bool:
    return not only or attack.name == only or family_of(attack.name) == only


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of all random choices")
    parser.add_argument("--only", default="", help="a family, such as kills, or an attack, such as kills/train")
    parser.add_argument("--attempt", type=int, default=0, help="repeat the attempt with this number")
    parser.add_argument("--minutes", type=float, default=12.0, help="time for all attacks together")
    parser.add_argument("--workers", type=int, default=2, help="attempts at a time")
    parser.add_argument("--folder", type=Path, default=None, help="where scratch folders are made")
    parser.add_argument("--write", action="store_true", help=f"write the table to {PAGE.relative_to(ROOT)}")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
