"""The finals: what is trained again, with which seeds, and what came of it. Nothing is trained."""

from optuna.trial import TrialState

from tuning.finals import finals
from tuning.finals.finals import count, fill, is_filled, open_finals, seed_of, settings_of
from tuning.finals.statistics import FinalRun
from tuning.queue import Queue
from tuning.study.trials import Attribute, begun

LEADER = {"machine": "here", "pid": 7, "started": 1.0}


def opened(storage, search, *, fills=True, top_k=3, seeds=3):
    rounds = open_finals(storage, search)
    if fills:
        fill(rounds, search, top_k, range(43, 43 + seeds), LEADER)
    return rounds


def queued(rounds):
    return [
        (one.system_attrs["fixed_params"]["setting"], one.system_attrs["fixed_params"]["seed"]) for one in rounds.trials
    ]


class TestOpenFinals:
    def test_all_settings_with_one_seed_come_first(self, storage, search):
        rounds = opened(storage, search, top_k=3, seeds=2)
        assert rounds.study_name == "s.finals"
        assert queued(rounds) == [(1, 43), (3, 43), (2, 43), (1, 44), (3, 44), (2, 44)]
        assert count(rounds) == 6

    def test_there_may_be_fewer_settings_than_asked_for(self, storage, search):
        assert len(queued(opened(storage, search, top_k=9, seeds=1))) == 4

    def test_are_queued_once_by_who_leads(self, storage, search):
        helper = opened(storage, search, fills=False)
        assert queued(helper) == []
        assert not is_filled(helper, LEADER)
        first = queued(opened(storage, search))
        assert queued(opened(storage, search)) == first
        assert queued(helper) == first
        assert is_filled(helper, LEADER)
        assert not is_filled(helper, {**LEADER, "pid": 8})  # who leads the next command has yet to do so

    def test_one_that_has_failed_is_queued_again(self, storage, search):
        rounds = opened(storage, search, top_k=2, seeds=1)
        trial = rounds.ask()
        trial.set_user_attr(Attribute.CAUSE, "its disk was full")
        rounds.tell(trial, state=TrialState.FAIL)
        assert queued(opened(storage, search, top_k=2, seeds=1)) == [(1, 43), (3, 43), (1, 43)]
        assert count(rounds) == 3

    def test_one_that_was_cut_off_is_queued_again_by_those_who_look_for_it_alone(self, storage, search):
        rounds = opened(storage, search, top_k=1, seeds=1)
        trial = rounds.ask()
        settings_of(trial, search)
        seed_of(trial)
        rounds.tell(trial, state=TrialState.FAIL)
        assert len(queued(opened(storage, search, top_k=1, seeds=1))) == 1
        assert Queue(rounds, count(rounds)).requeue_left() == [0]
        assert queued(rounds)[1:] == [(1, 43)]

    def test_those_that_were_queued_by_half_are_completed(self, storage, search):
        half = opened(storage, search, fills=False, top_k=2, seeds=2)
        half.enqueue_trial({"setting": 1, "seed": 43})
        assert queued(opened(storage, search, top_k=2, seeds=2)) == [(1, 43), (3, 43), (1, 44), (3, 44)]

    def test_more_than_before_join_those_that_there_are(self, storage, search):
        opened(storage, search, top_k=1, seeds=1)
        found = queued(opened(storage, search, top_k=2, seeds=2))
        assert sorted(found) == [(1, 43), (1, 44), (3, 43), (3, 44)]

    def test_a_trial_has_the_settings_and_the_seed_it_was_queued_with(self, storage, search):
        rounds = opened(storage, search, top_k=1, seeds=2)
        trial = rounds.ask()
        assert (settings_of(trial, search), seed_of(trial)) == ({"dropout": 0.9}, 43)
        assert settings_of(trial, search) is not search.get_trials(deepcopy=False)[1].user_attrs[Attribute.SETTINGS]
        assert seed_of(rounds.ask()) == 44

    def test_as_many_are_trained_when_some_are_cut_off(self, storage, search):
        rounds = opened(storage, search, top_k=2, seeds=2)
        queue = Queue(rounds, count(rounds))
        queue.next()  # it is cut off before it has begun
        queue.requeue(0)
        trained = []
        for _ in range(9):
            again = opened(storage, search, top_k=2, seeds=2)
            queue = Queue(again, count(again))
            trial = queue.next()
            if trial is None:
                break
            trained.append((settings_of(trial, search)["dropout"], seed_of(trial)))
            again.tell(trial, 0.5)
        assert sorted(trained) == [(0.7, 43), (0.7, 44), (0.9, 43), (0.9, 44)]
        assert queue.is_finished()
        assert len(begun(again)) == count(again) == 4


def test_what_came_of_them_is_read(storage, search):
    rounds = opened(storage, search, top_k=2, seeds=1)
    for number, score in enumerate((0.6, None)):
        trial = rounds.ask()
        settings_of(trial, search)
        seed_of(trial)
        trial.set_user_attr(Attribute.RUNS, {"43": f"r{number}"})
        if score is None:
            trial.set_user_attr(Attribute.CAUSE, "it has failed")
        rounds.tell(trial, score, state=TrialState.COMPLETE if score else TrialState.FAIL)
    assert finals.read(rounds, [44]) == []
    assert finals.read(rounds, [43, 44]) == [
        FinalRun(setting=1, seed=43, score=0.6, run_id="r0"),
        FinalRun(setting=3, seed=43, score=None, run_id="r1"),
    ]
