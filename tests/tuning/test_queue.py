"""The queue of a study: which trials come next, and which come again."""

import subprocess
import sys

import optuna
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from tests.tuning.tuning_parts import ELSEWHERE
from tuning.drivers import STALE_SECONDS, Watch, identity
from tuning.queue import Queue
from tuning.study.trials import Attribute, begun, counted, is_cut_off


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
        known = {
            Attribute.RUNS: {"42": "r1"},
            Attribute.SETTINGS: {"x": 0.25},
            Attribute.SECONDS: 7.5,
            Attribute.KILLS: 1,
        }
        for name, value in {**known, Attribute.BEAT: 3}.items():
            trial.set_user_attr(name, value)
        queue.requeue(trial.number)

        assert is_cut_off(study.trials[0])
        again = queue.next()
        assert again.number == 1
        assert again.suggest_float("x", 0, 1) == 0.25
        assert again.suggest_categorical("kind", ["a", "b"]) == study.trials[0].params["kind"]
        assert {**known, Attribute.WARM_START: "a preset"}.items() <= again.user_attrs.items()
        assert again.user_attrs[Attribute.RETRY_OF] == 0
        assert Attribute.BEAT not in again.user_attrs
        queue.requeue(1)
        third = queue.next()
        assert third.user_attrs[Attribute.RETRY_OF] == 1
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
