"""Faults of the service during trainings and searches: which commands end well, and what arrives."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.benchmarks.service.places import folder, service_for
from tests.chaos.templates import Templates
from tests.service.clients import Clients
from tests.service.faults import FAULTS, needs_root
from tests.service.outages import FULL, SHORT, Tally, attack

__all__ = ["MODELS", "FaultTable", "measure"]

MODELS = tuple(FAULTS)
_AT_A_TIME = 2  # faults, each on a service of its own
_NEEDS_ROOT = ("edge cut", "disk full")
_COLUMNS = (
    *("fault", "command", "commands", "ended well", "runs", "metric points", "files", "needed `sync`"),
    *("points lost", "points doubled", "files lost", "left RUNNING"),
)


@dataclass(frozen=True)
class FaultTable:
    """Fault and kind of command to a tally."""

    title: str
    tallies: dict[tuple[str, str], Tally]
    note: str

    def text(self) -> str:
        """Return the table as Markdown, and what went wrong."""
        lines = [self.title, "", f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
        lines += [f"| {' | '.join(map(str, cells))} |" for cells in self._cells()]
        remarks = [f"{' '.join(names)}: {remark}" for names, tally in self.tallies.items() for remark in tally.remarks]
        return "\n".join([*lines, "", self.note, *remarks])

    def as_json(self) -> dict[str, object]:
        """Return the table for JSON."""
        remarks = {" ".join(names): tally.remarks for names, tally in self.tallies.items()}
        rows = [dict(zip(_COLUMNS, cells, strict=True)) for cells in self._cells()]
        return {"title": self.title, "rows": rows, "note": self.note, "remarks": remarks}

    def _cells(self) -> list[tuple[object, ...]]:
        rows = []
        for names, tally in self.tallies.items():
            got = tally.delivered
            ends = (tally.started, tally.ended_well, got.runs, f"{got.points:,}", f"{got.files:,}", tally.synced)
            rows.append((*names, *ends, got.lost, got.doubled, got.lost_files, tally.running))
        return rows


def measure(options):
    """Yield one table: each fault as often as the repetitions say."""
    size = SHORT if options.quick else FULL
    names = [options.model] if options.model else [*FAULTS]
    skipped = [name for name in names if name in _NEEDS_ROOT and needs_root()]
    tallies = {(name, kind): Tally() for name in names if name not in skipped for kind in ("training", "search")}

    def attack_often(name, templates):
        with service_for(name, place) as (running, network):
            for number in range(options.repetitions):
                home = place / f"clients-{names.index(name)}-{number}"
                clients = Clients(home, running.environment(), templates, size.pause, network)
                for kind, tally in attack(running, FAULTS[name], clients, size).items():
                    tallies[name, kind].add(tally)

    with folder() as place, ThreadPoolExecutor(_AT_A_TIME) as pool:
        templates = Templates(place / "templates")
        attacks = [pool.submit(attack_often, name, templates) for name in names if name not in skipped]
        for one in attacks:
            one.result()
    note = f"Each fault lasts {size.outage:g} seconds and begins at a random moment; {options.repetitions} times each."
    remark = f" Skipped, because {needs_root()}: {', '.join(skipped)}." if skipped else ""
    yield FaultTable(title="service: faults", tallies=tallies, note=note + remark)
