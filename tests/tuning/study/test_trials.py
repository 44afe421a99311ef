"""Which trials count, which are retried, and why a trial failed."""

import pytest
from optuna.trial import TrialState

from tuning.study import trials
from tuning.study.trials import MAX_RETRIES, Attribute, cause, counted, retry_orphans, started, state


def fail(study, **attributes):
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    for name, value in attributes.items():
        trial.set_user_attr(name, value)
    study.tell(trial, state=TrialState.FAIL)
    return study.trials[trial.number]


def test_a_failed_trial_counts_and_an_interrupted_one_does_not(study):
    fail(study, cause="it broke")
    fail(study)
    fail(study, surplus=True)
    study.enqueue_trial({"x": 0.5})
    assert [state(trial) for trial in study.trials] == ["failed", "requeued", "requeued", "waiting"]
    assert [trial.number for trial in counted(study)] == [0, 3]
    assert [trial.number for trial in started(study)] == [0]
    assert [cause(trial) for trial in study.trials] == ["it broke", None, None, None]


def test_an_orphan_is_retried_once_with_what_it_had(study):
    first = fail(study, runs={"42": "a"})
    fail(study, cause="it broke")
    assert retry_orphans(study) == [0]
    assert retry_orphans(study) == []
    (again,) = [trial for trial in study.trials if trial.state == TrialState.WAITING]
    assert again.params == first.params
    assert again.user_attrs == {"runs": {"42": "a"}}


def test_a_trial_interrupted_too_often_has_failed(study):
    fail(study)
    for retries in range(MAX_RETRIES):
        assert retry_orphans(study) == [retries]
        study.tell(study.ask(), state=TrialState.FAIL)
    assert retry_orphans(study) == []
    assert [trial.number for trial in counted(study)] == [MAX_RETRIES]
    assert str(MAX_RETRIES + 1) in cause(study.trials[-1])


@pytest.mark.parametrize(("grace", "retried"), [(60, []), (-1, [0])])
def test_a_trial_whose_worker_died_before_its_heartbeat_is_retried(study, monkeypatch, grace, retried):
    monkeypatch.setattr(trials, "GRACE_SECONDS", grace)
    study.ask()
    with_settings = study.ask()
    with_settings.set_user_attr(Attribute.SETTINGS, {})
    assert retry_orphans(study) == retried


def test_duplicates_are_trials_beyond_the_total_and_second_retries(study):
    taken = [study.ask() for _ in range(3)]
    assert [trials.is_duplicate(trial, 2) for trial in taken] == [False, False, True]
    interrupted = fail(study)
    for _ in range(2):  # two workers retry it at the same moment
        trials.retry(study, study.get_trials()[interrupted.number])
    first, second = study.ask(), study.ask()
    assert not trials.is_duplicate(first, 9)
    assert trials.is_duplicate(second, 9)
