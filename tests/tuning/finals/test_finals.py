"""The finals: what is queued, with which seeds, and what came of it. Nothing is trained."""

import optuna
import pytest
from optuna.trial import TrialState

from tuning.finals.finals import count, enqueue, find_finals, open_finals, results, seed_of
from tuning.finals.statistics import FinalRun
from tuning.study.storage import ABOUT, RUN
from tuning.study.trials import Attribute, retry_orphans, settings, started


@pytest.fixture
def finals(storage):
    return optuna.create_study(storage=storage, study_name="s.finals", direction="maximize")


def search_of(storage, run_id, name="s"):
    """A search with one complete trial."""
    made = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    made.set_user_attr(RUN, run_id)
    trial = made.ask()
    trial.set_user_attr(Attribute.SETTINGS, {})
    made.tell(trial, 0.5)
    return made


def trained(finals, search):
    """The finals with one complete trial."""
    enqueue(finals, search, 1, [43])
    finals.tell(finals.ask(), 0.9)
    return finals


class TestTheStudyOfTheFinals:
    def test_it_is_found_again_and_is_none_before(self, storage):
        search = search_of(storage, "r1")
        assert find_finals(storage, search) is None
        trained(open_finals(storage, search), search)
        assert open_finals(storage, search).study_name == "s.finals"
        assert len(find_finals(storage, search).trials) == 1

    def test_a_study_made_again_after_it_was_deleted_has_its_own(self, storage):
        search = search_of(storage, "r1")
        trained(open_finals(storage, search), search)
        optuna.delete_study(study_name="s", storage=storage)
        again = search_of(storage, "r2")
        assert find_finals(storage, again) is None
        assert open_finals(storage, again).study_name == "s.finals-2"
        assert open_finals(storage, again).trials == []

    @pytest.mark.parametrize("kept", [{}, {ABOUT: {"finals of": "s"}}])
    def test_those_of_an_older_version_are_taken_when_they_began_after_their_trials(self, storage, kept):
        search = search_of(storage, "r1")
        older = optuna.create_study(storage=storage, study_name="s.finals", direction="maximize")
        for name, value in kept.items():
            older.set_user_attr(name, value)
        trained(older, search)
        assert len(find_finals(storage, search).trials) == 1
        optuna.delete_study(study_name="s", storage=storage)
        older.set_user_attr(ABOUT, {"finals of": "s"})  # as if it had not been found
        assert find_finals(storage, search_of(storage, "r2")) is None


def queue(finals, search, top_k=3, seeds=3):
    enqueue(finals, search, top_k, range(43, 43 + seeds))
    return keys(finals)


def keys(finals):
    return [(trial.user_attrs[Attribute.SOURCE], seed_of(trial)) for trial in finals.trials]


def test_all_trials_with_one_seed_come_first(finals, search):
    assert queue(finals, search, top_k=3, seeds=2) == [(1, 43), (3, 43), (2, 43), (1, 44), (3, 44), (2, 44)]
    assert count(finals) == 6


def test_a_final_has_the_parameters_and_settings_of_its_trial(finals, search):
    queue(finals, search, top_k=1, seeds=1)
    trial = finals.ask()
    assert trial.params == search.trials[1].params
    assert trial.distributions == search.trials[1].distributions
    assert settings(finals, 0) == settings(search, 1)


def test_fewer_trials_than_top_k_are_all_queued(finals, search):
    assert len(queue(finals, search, top_k=9, seeds=1)) == 4


def test_the_same_command_queues_nothing_twice(finals, search):
    first = queue(finals, search)
    assert queue(finals, search) == first


def test_a_failed_final_is_queued_again(finals, search):
    queue(finals, search, top_k=2, seeds=1)
    trial = finals.ask()
    trial.set_user_attr(Attribute.CAUSE, "its disk was full")
    finals.tell(trial, state=TrialState.FAIL)
    assert queue(finals, search, top_k=2, seeds=1) == [(1, 43), (3, 43), (1, 43)]


def test_an_interrupted_final_is_retried_once(finals, search):
    queue(finals, search, top_k=1, seeds=1)
    finals.tell(finals.ask(), state=TrialState.FAIL)
    assert retry_orphans(finals) == [0]
    assert queue(finals, search, top_k=1, seeds=1) == [(1, 43), (1, 43)]
    assert count(finals) == 1


def test_more_finals_join_those_of_an_earlier_command(finals, search):
    queue(finals, search, top_k=1, seeds=1)
    assert sorted(queue(finals, search, top_k=2, seeds=2)) == [(1, 43), (1, 44), (3, 43), (3, 44)]


def test_results_are_those_of_the_seeds(finals, search):
    queue(finals, search, top_k=2, seeds=1)
    for number, score in enumerate((0.6, None)):
        trial = finals.ask()
        trial.set_user_attr(Attribute.RUNS, {"43": f"r{number}"})
        if score is None:
            trial.set_user_attr(Attribute.CAUSE, "it has failed")
        finals.tell(trial, score, state=TrialState.COMPLETE if score else TrialState.FAIL)
    assert len(started(finals)) == 2
    assert results(finals, [44]) == []
    assert results(finals, [43, 44]) == [
        FinalRun(trial=1, seed=43, score=0.6, run_id="r0"),
        FinalRun(trial=3, seed=43, score=None, run_id="r1"),
    ]
