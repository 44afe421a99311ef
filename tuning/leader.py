"""Which driver of a study keeps its run: the one that made it, or who comes after that one is gone.

Drivers claim to lead in a study of their own, NAME.leaders, whose trials the storage numbers one after the other. A
claim names the one that it follows, and of several that follow the same the first holds. So one leads, whoever else
believes so: a driver whose machine has slept learns of its successor when it next asks.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.storages import BaseStorage

from trainer.core.errors import TuningError
from tuning import drivers
from tuning.study.storage import open_study

__all__ = ["Place", "open_claims", "take_place"]

_RUN = "run_id"
_BEAT = "leader_beat.{}"
"""Study attribute: counts while the driver that made the claim of this number is there."""
_DRIVER, _AFTER = "driver", "after"
"""Attributes of a claim: who makes it, and the number of the one that it follows."""
_LOOK_SECONDS = 2.0


@dataclass
class Place:
    """Where a driver stands in a study. A leader keeps the study's run; others help, without one."""

    study: optuna.Study
    claims: optuna.Study
    claim: int | None
    """Number of its claim; None for a driver that helps."""
    run_id: str | None
    """The study's run; None before it has been made."""
    _beats: int = 0
    _watch: drivers.Watch = field(default_factory=drivers.Watch)

    @property
    def leads(self) -> bool:
        """Whether it has taken the place of the leader; `leader` says whether it still has it."""
        return self.claim is not None

    def lead(self, run_id: str) -> None:
        """Say to all others which run is the study's."""
        self.run_id = run_id
        self.study.set_user_attr(_RUN, run_id)

    def beat(self) -> None:
        """Say that the leader is still there."""
        if self.leads:
            self._beats += 1
            with suppress(optuna.exceptions.StorageInternalError):  # the next one may arrive
                self.study.set_user_attr(_BEAT.format(self.claim), self._beats)

    def leader(self) -> Mapping[str, Any]:
        """Who leads. Raises TuningError when that driver is gone, or has taken the place of this one."""
        number, leader = _holder(self.claims)
        is_gone = self._watch.is_gone(str(number), leader, self.study.user_attrs.get(_BEAT.format(number)))
        if is_gone or self.claim not in (None, number):
            what = "one that is gone" if is_gone else "another in this one's place"
            host, pid = drivers.host(leader), leader["pid"]
            raise TuningError(
                f"study's run must be kept by a driver that is there, but got {what}: {host=}, {pid=}. "
                "Give the same command again: it leads or helps."
            )
        return leader


def open_claims(storage: BaseStorage, study: optuna.Study) -> optuna.Study:
    """The study where drivers claim to lead."""
    return open_study(storage, f"{study.study_name}.leaders", {"leaders of": study.study_name}, ["maximize"])


def take_place(study: optuna.Study, claims: optuna.Study, note: Callable[[str], None]) -> Place:
    """The place that is free: to lead when nobody does, else to help.

    A leader on another machine is watched until it stirs or has been still for too long; `note` is told so.
    """
    watch, told = drivers.Watch(), False
    while True:
        number, leader = _holder(claims)
        known = study.user_attrs
        run_id = known.get(_RUN)
        if leader == drivers.identity():
            return Place(study, claims, claim=number, run_id=run_id)
        if not leader or watch.is_gone(str(number), leader, known.get(_BEAT.format(number))):
            claims.enqueue_trial({}, user_attrs={_DRIVER: drivers.identity(), _AFTER: number})
        elif run_id is not None and (drivers.is_here(leader) or watch.has_stirred(str(number))):
            return Place(study, claims, claim=None, run_id=run_id)
        elif not told and not drivers.is_here(leader):
            note(f"looking whether the driver on {drivers.host(leader)} is still at work; it may take two minutes")
            told = True
        else:
            time.sleep(_LOOK_SECONDS)


def _holder(claims: optuna.Study) -> tuple[int | None, Mapping[str, Any]]:
    """Number of the claim that holds, and who made it; None and nobody before the first."""
    number: int | None = None
    leader: Mapping[str, Any] = {}
    for claim in claims.get_trials(deepcopy=False):
        if claim.user_attrs[_AFTER] == number:
            number, leader = claim.number, claim.user_attrs[_DRIVER]
    return number, leader
