"""Which driver of a study keeps its run: the one that made it, or who comes after that one is gone."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import optuna

from tuning import drivers

__all__ = ["Place", "take_place"]

_RUN, _LEADER, _BEAT = "run_id", "leader", "leader_beat"
_LOOK_SECONDS = 2.0


@dataclass
class Place:
    """Where a driver stands in a study. A leader keeps the study's run; others have their own and help."""

    study: optuna.Study
    leads: bool
    run_id: str | None
    """The study's run; None before it has been made."""
    _beats: int = 0

    def lead(self, run_id: str) -> None:
        """Say to all others that this driver leads, and which run is the study's."""
        self.run_id = run_id
        self.study.set_user_attr(_LEADER, drivers.identity())
        self.study.set_user_attr(_RUN, run_id)

    def beat(self) -> None:
        """Say that the leader is still there."""
        if self.leads:
            self._beats += 1
            self.study.set_user_attr(_BEAT, self._beats)


def take_place(study: optuna.Study, note: Callable[[str], None]) -> Place:
    """The place that is free: to lead when nobody does, else to help.

    A leader on another machine is watched until it stirs or has been still for too long; `note` is told so.
    """
    watch = drivers.Watch()
    told = False
    while True:
        known = study.user_attrs
        if _RUN not in known:
            return Place(study, leads=True, run_id=None)
        leader, beat = known[_LEADER], known.get(_BEAT)
        if watch.is_gone(study.study_name, leader, beat):
            return Place(study, leads=True, run_id=known[_RUN])
        if drivers.is_here(leader) or watch.has_stirred(study.study_name):
            return Place(study, leads=False, run_id=known[_RUN])
        if not told:
            note(f"looking whether the driver on {leader['machine']} is still at work; it may take two minutes")
            told = True
        time.sleep(_LOOK_SECONDS)
