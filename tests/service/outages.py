"""Makes a fault while commands log to a service, and counts what became of them."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.chaos import checks
from tests.service.clients import EXPERIMENT, Client, Clients
from tests.service.delivery import Delivered, Reader, compare

__all__ = ["FULL", "SHORT", "Size", "Tally", "attack"]

_STAGGER = 4.0
_PATIENCE = 900.0  # seconds for a command after the fault; a search waits ten minutes for a server


@dataclass(frozen=True, kw_only=True)
class Size:
    """How long the fault and the commands last, in seconds."""

    outage: float
    before: float
    """Longest time from the first steps of the trainings to the fault."""
    pause: float
    """Of each step of a training."""
    trainings: int
    """Beside one search with two workers."""
    trials: int
    """Of the search."""


FULL = Size(outage=60.0, before=30.0, pause=1.6, trainings=2, trials=3)
SHORT = Size(outage=6.0, before=3.0, pause=0.3, trainings=1, trials=2)


@dataclass
class Tally:
    """What became of the commands of one kind under one fault."""

    started: int = 0
    ended_well: int = 0
    """With exit status 0 and readable messages."""
    delivered: Delivered = field(default_factory=Delivered)
    """After `sync` where it was needed."""
    synced: int = 0
    """Commands whose runs were not complete on the server when they ended."""
    running: int = 0
    """Runs that were RUNNING at the end."""
    remarks: list[str] = field(default_factory=list)

    @property
    def is_kept(self) -> bool:
        """Whether all commands ended well and everything arrived exactly once."""
        return self.started == self.ended_well and not self.running and not self.delivered.faults

    def add(self, other: "Tally") -> None:
        """Add the counts of other commands."""
        for name in ("started", "ended_well", "synced", "running"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.delivered.add(other.delivered)
        self.remarks += other.remarks


def attack(service: Any, fault: Callable[..., None], clients: Clients, size: Size) -> dict[str, Tally]:
    """Start the commands, make the fault at a random moment, wait for their ends; return kind of command → tally.

    The trainings have begun by then: one that begins without a server says so and ends. Trials begin at any time.
    """
    for start in [partial(clients.tune, size.trials), *[clients.train] * size.trainings]:
        start()
        time.sleep(random.uniform(0.0, _STAGGER * size.outage / FULL.outage))
    until = time.monotonic() + _PATIENCE
    while not clients.have_begun():
        assert time.monotonic() < until, "a training does not begin"
        time.sleep(0.2)
    time.sleep(random.uniform(0.0, size.before))
    fault(service, clients.network, size.outage)
    tallies = {client.kind: Tally() for client in clients.started}
    for client in clients.started:
        _count_end(tallies[client.kind], client)
    service.wait_until_healthy()
    reader = Reader(clients.environment)
    for client in clients.started:
        _count_delivery(tallies[client.kind], client, clients, reader)
    left = set(reader.running(EXPERIMENT))
    for client in clients.started:
        running = [path.name for path in client.runs if path.name in left]
        tallies[client.kind].running += len(running)
        tallies[client.kind].remarks += [f"run {run_id} is RUNNING" for run_id in running]
        left -= set(running)
    tallies["search"].running += len(left)  # of trials that had no folder yet
    tallies["search"].remarks += [f"run {run_id} without a folder is RUNNING" for run_id in left]
    return tallies


def _count_end(tally: Tally, client: Client) -> None:
    ended = client.running.wait(_PATIENCE)
    faults = [*checks.ended_well(ended), *checks.readable(ended)]
    tally.started += 1
    tally.ended_well += not faults
    tally.remarks += [f"{client.folder.name}: {fault}" for fault in faults]


def _count_delivery(tally: Tally, client: Client, clients: Clients, reader: Reader) -> None:
    found = compare(reader, client.runs)
    if found.faults:
        tally.synced += 1
        tally.remarks += [f"before sync: {fault}" for fault in found.faults[:3]]
        tally.remarks += [f"sync: {fault}" for fault in checks.ended_well(clients.sync(client))]
        found = compare(reader, client.runs)
    tally.delivered.add(found)
    tally.remarks += found.faults
