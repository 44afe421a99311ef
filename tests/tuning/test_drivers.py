"""Drivers that share a study: who is gone, and who leads."""

import os
import subprocess
import sys
import time

import optuna
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuning.tuning_parts import ELSEWHERE, Clock
from trainer.core.errors import TuningError
from tuning import drivers, leader
from tuning.drivers import STALE_SECONDS, Watch, identity, is_here
from tuning.leader import Place, open_claims, take_place


class TestWatch:
    def test_a_process_of_this_machine_is_seen_at_once(self, clock, dead):
        watch = Watch(clock)
        assert is_here(identity())
        assert not watch.is_gone("a", identity(), None)
        assert watch.is_gone("b", dead, None)
        clock.now += 10 * STALE_SECONDS
        assert not watch.is_gone("a", identity(), None)  # however long it has said nothing

    def test_a_container_started_again_gives_the_same_number_at_once(self, clock):
        assert Watch(clock).is_gone("a", {**identity(), "started": identity()["started"] - 5}, None)

    def test_another_process_with_the_number_of_one_that_is_gone(self, clock):
        assert Watch(clock).is_gone("a", {**identity(), "started": 1.0}, None)

    def test_a_process_that_nobody_waits_for_is_gone(self, clock):
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        known = {**identity(), "pid": process.pid, "started": psutil.Process(process.pid).create_time()}
        assert not Watch(clock).is_gone("a", known, None)
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert Watch(clock).is_gone("a", known, None)
        process.wait()

    @pytest.mark.parametrize("driver", [ELSEWHERE, None])
    @pytest.mark.parametrize("beat", [None, 7])
    def test_another_machine_is_gone_when_its_number_has_stood_still(self, clock, driver, beat):
        watch = Watch(clock)
        assert not watch.is_gone("a", driver, beat)
        clock.now += STALE_SECONDS
        assert not watch.is_gone("a", driver, beat)
        clock.now += 0.1
        assert watch.is_gone("a", driver, beat)
        assert not watch.has_stirred("a")

    def test_one_that_beats_is_there(self, clock):
        watch = Watch(clock)
        for beat in range(50):
            assert not watch.is_gone("a", ELSEWHERE, beat)
            assert watch.has_stirred("a") == (beat > 0)
            clock.now += STALE_SECONDS * 0.9
        clock.now += STALE_SECONDS
        assert watch.is_gone("a", ELSEWHERE, beat)

    def test_each_is_watched_for_itself(self, clock):
        watch = Watch(clock)
        watch.is_gone("a", ELSEWHERE, 1)
        clock.now += STALE_SECONDS + 1
        assert not watch.is_gone("b", ELSEWHERE, 1)
        assert watch.is_gone("a", ELSEWHERE, 1)

    @given(steps=st.lists(st.tuples(st.floats(0, 300), st.booleans()), max_size=30))
    def test_is_gone_exactly_when_nothing_was_heard_for_too_long(self, steps):
        clock = Clock()
        watch, beat = Watch(clock), 0
        watch.is_gone("a", ELSEWHERE, beat)
        heard = clock.now
        for seconds, beats in steps:
            clock.now += seconds
            beat += beats
            heard = clock.now if beats else heard
            assert watch.is_gone("a", ELSEWHERE, beat) == (clock.now - heard > STALE_SECONDS)


@pytest.fixture
def claims(study):
    return open_claims(study._storage, study)


def claim(claims, driver, after=None):
    claims.enqueue_trial({}, user_attrs={"driver": driver, "after": after})


class TestPlace:
    def notes(self):
        raise AssertionError("nothing is to be waited for")

    def test_the_first_leads_and_has_no_run_yet(self, study, claims):
        place = take_place(study, claims, self.notes)
        assert (place.leads, place.run_id) == (True, None)
        place.lead("r")
        assert study.user_attrs["run_id"] == "r"
        assert place.leader() == identity()
        place.beat()
        place.beat()
        assert study.user_attrs["leader_beat.0"] == 2

    def test_the_second_helps_and_does_not_beat(self, study, claims):
        other = psutil.Process(os.getppid())
        claim(claims, identity() | {"pid": other.pid, "started": other.create_time()})
        study.set_user_attr("run_id", "r")
        place = take_place(study, claims, self.notes)
        assert (place.leads, place.run_id) == (False, "r")
        place.beat()
        assert not any(name.startswith("leader_beat") for name in study.user_attrs)

    def test_the_place_of_one_that_is_gone_is_free(self, study, claims, dead):
        claim(claims, dead)
        study.set_user_attr("run_id", "r")
        place = take_place(study, claims, self.notes)
        assert (place.leads, place.run_id) == (True, "r")

    def test_of_two_that_want_the_same_place_the_first_has_it_however_late_the_other_is(self, study, claims, dead):
        claim(claims, dead)
        claim(claims, dead, after=0)
        first = take_place(study, claims, self.notes)
        claim(claims, ELSEWHERE, after=0)  # it looked before the others said so
        claim(claims, ELSEWHERE, after=1)
        assert first.leader() == identity()
        assert len(claims.trials) == 5

    @given(claimed=st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 5)), max_size=12))
    def test_claims_have_one_holder_whom_later_ones_replace_only_by_following_it(self, claimed):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        made = optuna.create_study()
        holder = None
        for number, (driver, after) in enumerate(claimed):
            claim(made, {"pid": driver}, after if after >= 0 else None)
            follows = (after if after >= 0 else None) == holder
            holder = number if follows else holder
            assert leader._holder(made)[0] == holder

    def test_a_leader_that_is_gone_is_an_error_to_those_who_wait_for_it(self, study, claims, dead):
        claim(claims, dead)
        with pytest.raises(TuningError, match="must be kept by a driver that is there, but got one that is gone"):
            Place(study, claims, claim=None, run_id="r").leader()

    def test_a_leader_whose_place_was_taken_leads_no_more(self, study, claims):
        place = take_place(study, claims, self.notes)
        assert place.leader() == identity()
        claim(claims, ELSEWHERE, after=0)
        with pytest.raises(TuningError, match="got another in this one's place: host='elsewhere', pid=1"):
            place.leader()

    def test_a_beat_that_does_not_arrive_is_no_matter(self, study, claims, monkeypatch):
        place = take_place(study, claims, self.notes)
        with monkeypatch.context() as patch:
            patch.setattr(study, "set_user_attr", self.away)
            place.beat()
        place.beat()
        assert study.user_attrs["leader_beat.0"] == 2

    def away(self, *_):
        raise optuna.exceptions.StorageInternalError

    @pytest.mark.parametrize("beats", [True, False])
    def test_a_leader_elsewhere_is_watched(self, study, claims, beats, monkeypatch):
        claim(claims, ELSEWHERE)
        study.set_user_attr("run_id", "r")
        notes, naps = [], []

        def nap(seconds):
            naps.append(seconds)
            if beats:
                study.set_user_attr("leader_beat.0", len(naps))

        clock = Clock()
        monkeypatch.setattr(drivers, "Watch", lambda: Watch(lambda: clock.now + sum(naps)))
        monkeypatch.setattr(time, "sleep", nap)
        place = take_place(study, claims, notes.append)

        assert place.leads is not beats
        assert place.run_id == "r"
        assert len(notes) == 1
        assert "the driver on elsewhere" in notes[0]
        assert sum(naps) == (leader._LOOK_SECONDS if beats else STALE_SECONDS + leader._LOOK_SECONDS)
