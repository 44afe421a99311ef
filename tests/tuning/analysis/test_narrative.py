"""Sentences about a search say what its trials and finals show, and what they cannot show."""

import pytest
from optuna.trial import TrialState
from study_helpers import make_search, make_study, make_trial

from tuning.analysis import narrative
from tuning.analysis.importance import importances
from tuning.finals.statistics import FinalRun, rank

RUNNING, PRUNED, FAIL, WAITING = TrialState.RUNNING, TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING


def describe_best(study, finals=()):
    return " ".join(narrative.describe_best(study, "dev macro F1", rank(finals)))


def finals(**scores):
    """t3=(0.5, None): the settings of trial 3 with seeds 1 and 2."""
    return [
        FinalRun(trial=int(name[1:]), seed=seed, score=score, run_id=f"{name}-{seed}")
        for name, values in scores.items()
        for seed, score in enumerate(values, start=1)
    ]


def test_what_was_searched_and_how():
    text = narrative.describe_search(make_search(40), "dev macro F1")
    assert [
        word
        for word in ("7 parameters", "2 losses (asl, combined)", "dev macro F1", "TPESampler", "HyperbandPruner")
        if word not in text
    ] == []
    assert "1 other objective," in narrative.describe_search(make_search(4, directions=("maximize", "minimize")), "x")


def test_trials_are_counted_by_state_without_retried_ones():
    study = make_study(
        make_trial(0.5, seconds=100.0),
        make_trial(state=FAIL, surplus=True, seconds=1e6),
        make_trial(0.4, surplus=True),
        make_trial(state=FAIL),
        make_trial(state=RUNNING),
        make_trial(state=WAITING),
    )

    states, retried, time = narrative.describe_effort(study)
    assert states == "4 trials: 1 complete, 1 failed, 1 running, 1 waiting."
    assert "2 trials" in retried
    assert "2 min (measured for 1 of 4 trials)" in time


def test_pruning_saves_the_time_that_the_pruned_trial_had_left():
    study = make_study(
        make_trial(0.5, reports=[0.1] * 10, seconds=600.0),
        make_trial(state=PRUNED, reports=[0.1, 0.1], seconds=100.0),
    )

    assert "12 min; pruning saved about 7 min" in list(narrative.describe_effort(study))[-1]


@pytest.mark.parametrize("pruned", [{"seconds": 10.0}, {"reports": [0.1]}])
def test_time_saved_by_pruning_needs_times_and_reports(pruned):
    study = make_study(make_trial(0.5, reports=[0.1] * 4, seconds=60.0), make_trial(state=PRUNED, **pruned))

    assert "saved" not in " ".join(narrative.describe_effort(study))


@pytest.mark.parametrize(
    ("found", "values"),
    [
        (
            [make_trial(0.5, warm_start=True), make_trial(0.52)],
            ("Trial 1 is the best: dev macro F1 0.5200, 0.0200 better", "(trial 0: 0.5000)"),
        ),
        ([make_trial(0.5, warm_start=True), make_trial(0.4)], ("with the starting settings; no other trial",)),
        (
            [make_trial(0.5, warm_start=True)],
            ("Trial 0 is the best: dev macro F1 0.5000, with the starting settings.",),
        ),
        ([make_trial(state=FAIL, warm_start=True), make_trial(0.4)], ("(trial 0, failed) have no score",)),
        ([make_trial(0.5), make_trial(0.4)], ("Trial 0 is the best: dev macro F1 0.5000.",)),
    ],
)
def test_the_best_trial_is_compared_with_the_starting_settings(found, values):
    text = describe_best(make_study(*found))
    assert [value for value in values if value not in text] == []


def test_the_best_score_is_optimistic_and_the_finals_measure_it_again():
    study = make_study(make_trial(0.5), make_trial(0.52))

    assert "best of 2" in describe_best(study)
    assert "0.5050, 0.0150 lower than in the search" in describe_best(study, finals(t1=(0.50, 0.51)))
    assert "0.5300, 0.0100 higher than in the search" in describe_best(study, finals(t1=(0.53,)))


def test_no_complete_trial_has_no_best():
    assert describe_best(make_study(make_trial(state=RUNNING))).startswith("No trial is complete")
    assert describe_best(make_study(make_trial(float("inf")))).startswith("No trial is complete")
    assert list(narrative.describe_effort(make_study())) == ["0 trials."]


def test_two_objectives_name_the_trials_that_no_other_beats():
    study = make_study(
        make_trial((0.5, 10.0)), make_trial((0.6, 20.0)), make_trial((0.4, 30.0)), directions=("maximize", "minimize")
    )

    assert "By the first objective, trial 1 is the best" in describe_best(study)
    assert "trials 0, 1 in every objective" in describe_best(study)


def test_failures_are_grouped_by_cause():
    study = make_study(
        make_trial(state=FAIL, cause="out of memory"),
        make_trial(state=FAIL, cause="loss is not finite"),
        make_trial(state=FAIL),
        make_trial(state=FAIL, cause="loss is not finite"),
        make_trial(state=FAIL, cause="killed", surplus=True),
    )

    assert narrative.failures(study) == {"loss is not finite": [1, 3], "out of memory": [0], "it broke": [2]}


def test_few_complete_trials_are_named_as_the_limit_once():
    few, many = make_search(6), make_search(60)

    (limit,) = narrative.describe_limits(few)
    assert "With 4 complete trials" in limit
    assert list(narrative.describe_importance(importances(few))) == []
    assert list(narrative.describe_limits(many)) == []
    assert len(list(narrative.describe_importance(importances(many)))) == 3


@pytest.mark.parametrize(
    ("runs", "values"),
    [
        (finals(), "No finals"),
        (finals(t1=(None,)), "No run of the finals has a score"),
        (finals(t1=(0.5, 0.6)), "trial 1 lead the finals: mean 0.5500 over 2 fresh seeds"),
        (finals(t1=(0.50, 0.51, 0.52), t2=(0.40, 0.41, 0.42)), "+0.1000 to +0.1000): more than the noise"),
        (finals(t1=(0.50, 0.60, 0.52), t2=(0.55, 0.51, 0.54)), "within the noise between seeds"),
        (finals(t1=(0.5,), t2=(0.4,)), "+0.1000 on the one seed"),
        (finals(t1=(0.5, None), t2=(None, 0.4)), "share no seed with trial 2"),
        (finals(t1=(0.5, 0.5), t2=(0.4, None)), "trial 2 lack a score for seed 2"),
    ],
)
def test_the_finals_are_described_as_far_as_the_seeds_allow(runs, values):
    assert values in " ".join(narrative.describe_finals(rank(runs)))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "1 h 0 min"), (11130, "3 h 6 min")]
)
def test_durations(seconds, text):
    assert narrative.duration(seconds) == text


def test_many_numbers_are_cut():
    assert narrative.list_trials([3]) == "trial 3"
    assert narrative.list_trials(range(20)).endswith("10, 11, …")
