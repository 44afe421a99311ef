"""Drivers that share a study: who is gone, who leads, which trials come next and which come again."""

import os
import subprocess
import sys
import time

import optuna
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from trainer.core.errors import TuningError
from tuning import drivers, leader
from tuning.drivers import STALE_SECONDS, Watch, identity, is_here
from tuning.leader import Place, take_place
from tuning.queue import Queue
from tuning.trials import Attribute, begun, counted, is_cut_off

ELSEWHERE = {"machine": "elsewhere", "pid": 1, "started": 0.0}


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def study():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))


@pytest.fixture(scope="module")
def dead():
    """A driver on this machine whose process is gone."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        return {**identity(), "pid": process.pid, "started": psutil.Process(process.pid).create_time()}


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


class TestPlace:
    def notes(self):
        raise AssertionError("nothing is to be waited for")

    def test_the_first_leads_and_has_no_run_yet(self, study):
        place = take_place(study, self.notes)
        assert (place.leads, place.run_id) == (True, None)
        place.lead("r")
        assert study.user_attrs["run_id"] == "r"
        assert study.user_attrs["leader"] == identity()
        place.beat()
        place.beat()
        assert study.user_attrs["leader_beat"] == 2

    def test_the_second_helps_and_does_not_beat(self, study):
        other = psutil.Process(os.getppid())
        study.set_user_attr("leader", identity() | {"pid": other.pid, "started": other.create_time()})
        study.set_user_attr("run_id", "r")
        place = take_place(study, self.notes)
        assert (place.leads, place.run_id) == (False, "r")
        place.beat()
        assert "leader_beat" not in study.user_attrs

    def test_the_place_of_one_that_is_gone_is_free(self, study, dead):
        study.set_user_attr("leader", dead)
        study.set_user_attr("run_id", "r")
        place = take_place(study, self.notes)
        assert (place.leads, place.run_id) == (True, "r")

    def test_a_leader_that_is_gone_is_an_error_to_those_who_wait_for_it(self, study, dead):
        study.set_user_attr("leader", dead)
        with pytest.raises(TuningError, match="must be kept by a driver that is there, but got one that is gone"):
            Place(study, leads=False, run_id="r").leader()

    def test_a_leader_whose_place_was_taken_leads_no_more(self, study):
        place = take_place(study, self.notes)
        assert place.leader() == identity()
        study.set_user_attr("leader", ELSEWHERE)
        with pytest.raises(TuningError, match="got another in this one's place: host='elsewhere', pid=1"):
            place.leader()

    def test_a_beat_that_does_not_arrive_is_no_matter(self, study, monkeypatch):
        place = take_place(study, self.notes)
        with monkeypatch.context() as patch:
            patch.setattr(study, "set_user_attr", self.away)
            place.beat()
        place.beat()
        assert study.user_attrs["leader_beat"] == 2

    def away(self, *_):
        raise optuna.exceptions.StorageInternalError

    @pytest.mark.parametrize("beats", [True, False])
    def test_a_leader_elsewhere_is_watched(self, study, beats, monkeypatch):
        study.set_user_attr("leader", ELSEWHERE)
        study.set_user_attr("run_id", "r")
        notes, naps = [], []

        def nap(seconds):
            naps.append(seconds)
            if beats:
                study.set_user_attr("leader_beat", len(naps))

        clock = Clock()
        monkeypatch.setattr(drivers, "Watch", lambda: Watch(lambda: clock.now + sum(naps)))
        monkeypatch.setattr(time, "sleep", nap)
        place = take_place(study, notes.append)

        assert place.leads is not beats
        assert place.run_id == "r"
        assert len(notes) == 1
        assert "the driver on elsewhere" in notes[0]
        looked = STALE_SECONDS + leader._LOOK_SECONDS + leader._SETTLE_SECONDS
        assert sum(naps) == (leader._LOOK_SECONDS if beats else looked)


class TestQueue:
    def test_gives_out_as_many_as_asked_for(self, study):
        queue = Queue(study, 3)
        found = [queue.next() for _ in range(5)]
        assert [trial is not None for trial in found] == [True] * 3 + [False] * 2
        assert all(trial.user_attrs[Attribute.DRIVER] == identity() for trial in found[:3])
        assert not queue.is_finished()
        for trial in found[:3]:
            study.tell(trial, 0.5)
        assert queue.is_finished()
        assert queue.next() is None

    def test_those_that_wait_come_first_and_count_within_the_total(self, study):
        for value in (0.1, 0.2, 0.3):
            study.enqueue_trial({"x": value})
        queue = Queue(study, 2)
        assert [queue.next().suggest_float("x", 0, 1) for _ in range(2)] == [0.1, 0.2]
        assert queue.next() is None
        assert Queue(study, 4).next().suggest_float("x", 0, 1) == 0.3

    def test_those_of_earlier_commands_count(self, study):
        for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
            trial = study.ask()
            if state == TrialState.FAIL:
                trial.set_user_attr(Attribute.CAUSE, "it has failed")
            study.tell(trial, 0.5 if state == TrialState.COMPLETE else None, state=state)
        assert Queue(study, 3).next() is None
        assert Queue(study, 3).is_finished()
        assert Queue(study, 4).next().number == 3

    def test_one_too_many_is_taken_back(self, study, monkeypatch):
        queue, other = Queue(study, 2), Queue(study, 2)
        ours = queue.next()
        ask = study.ask

        def overtaken():
            monkeypatch.setattr(study, "ask", ask)
            assert other.next() is not None
            return ask()

        monkeypatch.setattr(study, "ask", overtaken)
        assert queue.next() is None
        assert [trial.number for trial in begun(study)] == [0, 1]
        assert study.trials[2].user_attrs[Attribute.SURPLUS] is True
        assert study.trials[2].state == TrialState.FAIL
        assert not is_cut_off(study.trials[2])
        # That of the other, which it takes for its own: they are one process here.
        assert queue.requeue_left({ours.number}) == [1]
        study.tell(ours, 0.5)

    def test_of_two_that_continue_the_same_the_first_stands(self, study):
        cut = Queue(study, 9).next()
        for queue in (Queue(study, 9), Queue(study, 9)):  # both have seen that its driver is gone
            queue.requeue(cut.number)
        queue = Queue(study, 9)
        assert queue.next().number == 1
        assert queue.next() is None
        assert study.trials[2].user_attrs[Attribute.SURPLUS] is True
        assert [trial.number for trial in counted(study)] == [1]
        assert queue.next().number == 3  # and the next one is a new one

    def test_what_is_given_back_goes_on_where_it_stood(self, study):
        study.enqueue_trial({"x": 0.25}, user_attrs={Attribute.WARM_START: "a preset"})
        queue = Queue(study, 1)
        trial = queue.next()
        trial.suggest_float("x", 0, 1)
        trial.suggest_categorical("kind", ["a", "b"])
        known = {Attribute.RUNS: {"42": "r1"}, Attribute.SETTINGS: {"x": 0.25}, Attribute.SECONDS: 7.5}
        for name, value in {**known, Attribute.BEAT: 3}.items():
            trial.set_user_attr(name, value)
        queue.requeue(trial.number, was_killed=True)

        assert is_cut_off(study.trials[0])
        again = queue.next()
        assert again.number == 1
        assert again.suggest_float("x", 0, 1) == 0.25
        assert again.suggest_categorical("kind", ["a", "b"]) == study.trials[0].params["kind"]
        assert {**known, Attribute.WARM_START: "a preset"}.items() <= again.user_attrs.items()
        assert (again.user_attrs[Attribute.RETRY_OF], again.user_attrs[Attribute.RETRIES]) == (0, 1)
        assert Attribute.BEAT not in again.user_attrs
        queue.requeue(1)
        third = queue.next()
        assert (third.user_attrs[Attribute.RETRY_OF], third.user_attrs[Attribute.RETRIES]) == (1, 1)
        study.tell(third, 0.5)
        assert queue.is_finished()
        assert [trial.number for trial in begun(study)] == [2]

    def test_one_that_is_cut_off_before_it_had_its_values_keeps_those_it_was_to_have(self, study):
        study.enqueue_trial({"x": 0.25, "y": 0.5})
        queue = Queue(study, 1)
        queue.next().suggest_float("y", 0, 1)
        queue.requeue(0)
        assert queue.next().suggest_float("x", 0, 1) == 0.25
        queue.requeue(1)
        again = queue.next()
        assert (again.suggest_float("x", 0, 1), again.suggest_float("y", 0, 1)) == (0.25, 0.5)


class TestRequeueLeft:
    def left(self, study, driver, **attributes):
        trial = study.ask()
        for name, value in {Attribute.DRIVER: driver, **attributes}.items():
            trial.set_user_attr(name, value)
        return trial.number

    def queue(self, study, clock):
        queue = Queue(study, 9)
        queue._watch = Watch(clock)
        return queue

    def test_of_a_driver_of_this_machine_at_once_and_once_only(self, study, dead, clock):
        number, queue = self.left(study, dead), self.queue(study, clock)
        assert queue.requeue_left() == [number]
        assert queue.requeue_left() == []
        assert self.queue(study, clock).requeue_left() == []
        assert queue.next().user_attrs[Attribute.RETRY_OF] == number

    def test_not_of_one_that_is_there(self, study, clock):
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            there = {**identity(), "pid": process.pid, "started": psutil.Process(process.pid).create_time()}
            self.left(study, there)
            own = self.queue(study, clock)
            mine = own.next()
            clock.now += 10 * STALE_SECONDS
            assert own.requeue_left({mine.number}) == []

    def test_not_of_one_that_has_ended_by_itself_in_that_moment(self, study, dead, clock, monkeypatch):
        number, queue = self.left(study, dead), self.queue(study, clock)
        tell = study.tell

        def overtaken(*words, **options):
            tell(number, 0.5)
            monkeypatch.setattr(study, "tell", tell)
            raise optuna.exceptions.UpdateFinishedTrialError

        monkeypatch.setattr(study, "tell", overtaken)
        queue.requeue_left()
        assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]

    def test_its_own_that_was_taken_when_the_storage_went_away(self, study, clock, monkeypatch):
        queue = self.queue(study, clock)
        monkeypatch.setattr(queue, "_is_surplus", self.away)
        with pytest.raises(optuna.exceptions.StorageInternalError):
            queue.next()
        assert study.trials[0].state == TrialState.RUNNING
        assert queue.requeue_left() == [0]

    def away(self, *_):
        raise optuna.exceptions.StorageInternalError

    def test_its_own_whose_end_was_told_by_half(self, study, clock, monkeypatch):
        queue = self.queue(study, clock)
        trial = queue.next()
        study.tell(trial, state=TrialState.FAIL)  # and then the storage went away, before it was queued again
        assert queue.requeue_left({trial.number}) == []
        assert queue.requeue_left() == [trial.number]

    @pytest.mark.parametrize("driver", [ELSEWHERE, None])
    def test_of_another_machine_after_a_while(self, study, driver, clock):
        number = self.left(study, driver, **{Attribute.BEAT: 1})
        queue = self.queue(study, clock)
        assert queue.requeue_left() == []
        clock.now += STALE_SECONDS - 1
        study._storage.set_trial_user_attr(study.trials[0]._trial_id, Attribute.BEAT, 2)
        assert queue.requeue_left() == []
        clock.now += STALE_SECONDS + 1
        assert queue.requeue_left() == [number]

    def test_one_that_nobody_put_its_name_to(self, study, clock):
        study.ask()
        queue = self.queue(study, clock)
        assert queue.requeue_left() == []
        clock.now += STALE_SECONDS + 1
        assert queue.requeue_left() == [0]

    def test_one_whose_driver_was_killed_between_ending_and_queueing_it(self, study, clock):
        trial = study.ask()
        study.tell(trial, state=TrialState.FAIL)
        assert self.queue(study, clock).requeue_left() == [0]

    def test_neither_one_that_has_failed_nor_one_that_has_ended_nor_one_that_waits(self, study, dead, clock):
        failed = study.ask()
        failed.set_user_attr(Attribute.CAUSE, "it has failed")
        study.tell(failed, state=TrialState.FAIL)
        study.tell(study.ask(), 0.5)
        study.tell(study.ask(), state=TrialState.PRUNED)
        study.enqueue_trial({"x": 0.1})
        queue = self.queue(study, clock)
        queue.requeue_left()
        clock.now += STALE_SECONDS + 1
        assert queue.requeue_left() == []

    @settings(max_examples=30)
    @given(
        fates=st.lists(st.sampled_from(["complete", "pruned", "failed", "cut", "left"]), max_size=12), more=st.data()
    )
    def test_whatever_befalls_trials_so_many_end_as_were_asked_for(self, fates, more):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
        total = more.draw(st.integers(1, 6))
        gone = {**identity(), "started": 1.0}
        fates = iter(fates)
        for _ in range(40):
            queue = Queue(study, total)
            queue.requeue_left()
            trial = queue.next()
            if trial is None:
                break
            fate = next(fates, "complete")
            if fate == "failed":
                trial.set_user_attr(Attribute.CAUSE, "it has failed")
                study.tell(trial, state=TrialState.FAIL)
            elif fate == "cut":
                queue.requeue(trial.number)
            elif fate == "left":
                trial.set_user_attr(Attribute.DRIVER, gone)
            else:
                study.tell(trial, *([0.5] if fate == "complete" else [None, TrialState.PRUNED]))
        assert Queue(study, total).is_finished()
        assert len(begun(study)) == len(counted(study)) == total
