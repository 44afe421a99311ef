"""Importances name the parameter that made the difference, within each loss too, and stay silent on few trials."""

import pytest
from study_parts import SHARED, make_search, make_study, make_trial

from tuning.analysis.importance import MIN_TRIALS, importance, importances
from tuning.study import trials


def test_the_parameter_that_decides_has_the_largest_share():
    overall, *within = importances(make_search(60))

    assert next(iter(overall.shares)) == "learning_rate"
    assert sum(overall.shares.values()) == pytest.approx(1)
    assert set(overall.shares) == set(SHARED)
    assert [one.loss for one in within] == ["asl", "combined"]


def test_parameters_of_one_loss_have_shares_within_that_loss_alone():
    _, asl, combined = importances(make_search(60))

    assert set(asl.shares) == {"learning_rate", "dropout", "layers", "margin", "gamma"}
    assert set(combined.shares) == {"learning_rate", "dropout", "layers", "ratio"}
    assert asl.trials + combined.trials == len(trials.scored(make_search(60)))


def test_one_loss_has_one_entry_with_all_its_parameters():
    (only,) = importances(make_search(40, losses=("asl",)))

    assert set(only.shares) == {"learning_rate", "dropout", "layers", "margin", "gamma"}


@pytest.mark.parametrize("count", [0, 1, 2, MIN_TRIALS - 1])
def test_few_trials_give_a_reason_and_no_shares(count):
    found = [make_trial(0.1 * place, {"learning_rate": 1e-4 + 1e-5 * place, "layers": 1}) for place in range(count)]
    one = importance(make_study(*found))

    assert one.shares == {}
    assert one.reason == f"importance needs {MIN_TRIALS} complete trials, and there are {count}"


def test_equal_scores_and_single_parameters_give_a_reason():
    same = [make_trial(0.5, {"learning_rate": 1e-4 + 1e-5 * place, "dropout": 0.01 * place}) for place in range(9)]
    single = [make_trial(0.1 * place, {"learning_rate": 1e-4 + 1e-5 * place, "layers": 1}) for place in range(9)]

    assert importance(make_study(*same)).reason == "all complete trials have the same score"
    assert "fewer than two parameters" in importance(make_study(*single)).reason


def test_the_first_of_two_objectives_decides():
    found = [
        make_trial(
            (1.0 if place % 10 == 0 else place / 1000, 5.0),
            {"learning_rate": 9e-4 if place % 10 == 0 else 1e-5 * (1 + place % 9), "dropout": (place * 7 % 50) / 100},
        )
        for place in range(60)
    ]
    shares = importance(make_study(*found, directions=("maximize", "minimize"))).shares

    assert shares["learning_rate"] > 0.8


def test_trials_that_were_queued_again_do_not_count():
    found = [make_trial(0.1 * place, {"learning_rate": 1e-4, "layers": 1}, surplus=True) for place in range(9)]

    assert importance(make_study(*found)).trials == 0


def test_copies_keep_numbers_and_leave_the_study_alone():
    study = make_study(
        make_trial((0.1, 5.0), surplus=True), make_trial((0.2, 4.0), run_id="a"), directions=("maximize", "minimize")
    )
    copy = trials.copy_study(study)

    assert [trial.number for trial in trials.scored(copy)] == [1]
    assert trials.scored(copy)[0].values == [0.2]
    assert copy.trials[1].user_attrs == {}
    assert study.trials[1].values == [0.2, 4.0]
    assert study.trials[1].user_attrs == {"run_id": "a"}
