"""Which driver of a study keeps its run: the one that made it, or who comes after that one is gone."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import optuna

from trainer.core.errors import TuningError
from tuning import drivers

__all__ = ["Place", "take_place"]

_RUN, _LEADER, _BEAT = "run_id", "leader", "leader_beat"
_LOOK_SECONDS = 2.0
_SETTLE_SECONDS = 1.0


@dataclass
class Place:
    """Where a driver stands in a study. A leader keeps the study's run; others help, without one."""

    study: optuna.Study
    leads: bool
    run_id: str | None
    """The study's run; None before it has been made."""
    _beats: int = 0
    _watch: drivers.Watch = field(default_factory=drivers.Watch)

    def lead(self, run_id: str) -> None:
        """Say to all others which run is the study's."""
        self.run_id = run_id
        self.study.set_user_attr(_RUN, run_id)

    def beat(self) -> None:
        """Say that the leader is still there."""
        if self.leads:
            self._beats += 1
            with suppress(optuna.exceptions.StorageInternalError):  # the next one may arrive
                self.study.set_user_attr(_BEAT, self._beats)

    def leader(self) -> Mapping[str, Any]:
        """Who leads. Raises TuningError when that driver is gone, or has taken the place of this one."""
        known = self.study.user_attrs
        leader: Mapping[str, Any] = known[_LEADER]
        is_gone = self._watch.is_gone(_LEADER, leader, known.get(_BEAT))
        if is_gone or (self.leads and leader != drivers.identity()):
            what = "one that is gone" if is_gone else "another in this one's place"
            host, pid = drivers.host(leader), leader["pid"]
            raise TuningError(
                f"study's run must be kept by a driver that is there, but got {what}: {host=}, {pid=}. "
                "Give the same command again: it leads or helps."
            )
        return leader


def take_place(study: optuna.Study, note: Callable[[str], None]) -> Place:
    """The place that is free: to lead when nobody does, else to help.

    A leader on another machine is watched until it stirs or has been still for too long; `note` is told so.
    Of several that want to lead at the same moment, the last to say so does.
    """
    watch, name = drivers.Watch(), study.study_name
    told = False
    while True:
        known = study.user_attrs
        leader, run_id = known.get(_LEADER), known.get(_RUN)
        if leader == drivers.identity():
            return Place(study, leads=True, run_id=run_id)
        if leader is None or watch.is_gone(name, leader, known.get(_BEAT)):
            study.set_user_attr(_LEADER, drivers.identity())
            time.sleep(_SETTLE_SECONDS)
        elif run_id is not None and (drivers.is_here(leader) or watch.has_stirred(name)):
            return Place(study, leads=False, run_id=run_id)
        elif not told and not drivers.is_here(leader):
            note(f"looking whether the driver on {drivers.host(leader)} is still at work; it may take two minutes")
            told = True
        else:
            time.sleep(_LOOK_SECONDS)
