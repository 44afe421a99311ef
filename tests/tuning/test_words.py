"""Sentences say what the study holds, and nothing that it does not."""

import pytest
from optuna.trial import TrialState
from study_parts import make_search, make_study, make_trial

from tuning.analysis import narrative
from tuning.analysis.importance import importances
from tuning.finals.statistics import FinalRun, rank

RUNNING, PRUNED, FAIL, WAITING = TrialState.RUNNING, TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING


def best(study, finals=()):
    return " ".join(narrative.best(study, "dev macro F1", rank(finals)))


def test_what_was_searched_and_how():
    assert narrative.searched(make_search(40), "dev macro F1") == (
        "Searched 7 parameters over 2 losses (asl, combined) for the highest dev macro F1, with TPESampler and "
        "HyperbandPruner."
    )
    assert "and 1 other objective," in narrative.searched(make_search(4, directions=("maximize", "minimize")), "x")


def test_trials_are_counted_by_how_they_ended_without_those_queued_again():
    study = make_study(
        make_trial(0.5, seconds=100.0),
        make_trial(state=FAIL, surplus=True, seconds=1e6),
        make_trial(0.4, surplus=True),
        make_trial(state=FAIL),
        make_trial(state=RUNNING),
        make_trial(state=WAITING),
    )

    assert list(narrative.spent(study)) == [
        "4 trials: 1 complete, 1 failed, 1 running, 1 waiting.",
        "Not counted: 2 trials that had to be queued again.",
        "Training took 2 min in all (known for 1 of 4 trials).",
    ]


def test_pruning_saved_what_the_pruned_trial_had_still_before_it():
    study = make_study(
        make_trial(0.5, reports=[0.1] * 10, seconds=600.0),
        make_trial(state=PRUNED, reports=[0.1, 0.1], seconds=100.0),
    )

    assert list(narrative.spent(study))[-1] == "Training took 12 min in all; pruning saved about 7 min more."


@pytest.mark.parametrize("pruned", [{"seconds": 10.0}, {"reports": [0.1]}])
def test_what_pruning_saved_is_not_said_where_it_is_not_known(pruned):
    study = make_study(make_trial(0.5, reports=[0.1] * 4, seconds=60.0), make_trial(state=PRUNED, **pruned))

    assert "saved" not in " ".join(narrative.spent(study))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            [make_trial(0.5, warm_start=True), make_trial(0.52)],
            "Trial 1 is the best: dev macro F1 0.5200, 0.0200 better than the starting settings (trial 0: 0.5000).",
        ),
        (
            [make_trial(0.5, warm_start=True), make_trial(0.4)],
            "with the starting settings: no other trial beat them.",
        ),
        (
            [make_trial(0.5, warm_start=True)],
            "Trial 0 is the best: dev macro F1 0.5000, with the starting settings.",
        ),
        (
            [make_trial(state=FAIL, warm_start=True), make_trial(0.4)],
            "; the starting settings (trial 0, failed) have no score to compare it with.",
        ),
        ([make_trial(0.5), make_trial(0.4)], "Trial 0 is the best: dev macro F1 0.5000."),
    ],
)
def test_the_best_trial_is_compared_with_what_it_starts_from(found, said):
    assert said in best(make_study(*found))


def test_the_best_score_was_picked_and_that_of_the_finals_is_honest():
    study = make_study(make_trial(0.5), make_trial(0.52))
    finals = [FinalRun(setting=1, seed=seed, score=score, run_id="r") for seed, score in ((7, 0.50), (8, 0.51))]

    assert "picked as the best of 2, so luck was picked with it" in best(study)
    assert "there is none for this trial" in best(study)
    assert "0.5050 over 2 fresh seeds (-0.0150)" in best(study, finals)


def test_no_complete_trial_has_no_best():
    assert best(make_study(make_trial(state=RUNNING))) == "No trial is complete yet, so there is no best one."
    assert best(make_study(make_trial(float("inf")))).startswith("No trial is complete")
    assert list(narrative.spent(make_study())) == ["0 trials."]


def test_two_objectives_name_the_trials_that_no_other_beats():
    study = make_study(
        make_trial((0.5, 10.0)), make_trial((0.6, 20.0)), make_trial((0.4, 30.0)), directions=("maximize", "minimize")
    )

    assert "By the first objective, trial 1 is the best" in best(study)
    assert "beats these in every objective: trials 0, 1." in best(study)


def test_failures_are_grouped_by_cause():
    study = make_study(
        make_trial(state=FAIL, cause="out of memory"),
        make_trial(state=FAIL, cause="loss is not finite"),
        make_trial(state=FAIL),
        make_trial(state=FAIL, cause="loss is not finite"),
        make_trial(state=FAIL, cause="killed", surplus=True),
    )

    assert narrative.failures(study) == {"loss is not finite": [1, 3], "out of memory": [0], "it broke": [2]}


def test_what_mattered_is_said_once_where_it_cannot_be_told():
    assert len(list(narrative.mattered(importances(make_search(6))))) == 1
    assert len(list(narrative.mattered(importances(make_search(60))))) == 3


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "1 h 0 min"), (11130, "3 h 6 min")]
)
def test_durations(seconds, text):
    assert narrative.duration(seconds) == text


def test_many_numbers_are_cut():
    assert narrative.listed([3]) == "trial 3"
    assert narrative.listed(range(20)).endswith("10, 11, …")
