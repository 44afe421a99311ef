"""Importances rank the deciding parameter first, within each loss too; few trials have none."""

import pytest
from study_helpers import SHARED, make_search, make_study, make_trial

from tuning.analysis.importance import MIN_TRIALS, importance, importances
from tuning.study import trials


def test_the_deciding_parameter_has_the_largest_importance():
    overall, *within = importances(make_search(60))

    assert next(iter(overall.fractions)) == "learning_rate"
    assert sum(overall.fractions.values()) == pytest.approx(1)
    assert set(overall.fractions) == set(SHARED)
    assert [one.loss for one in within] == ["asl", "combined"]


def test_parameters_of_one_loss_have_importances_within_that_loss_only():
    _, asl, combined = importances(make_search(60))

    assert set(asl.fractions) == {"learning_rate", "dropout", "layers", "margin", "gamma"}
    assert set(combined.fractions) == {"learning_rate", "dropout", "layers", "ratio"}
    assert asl.trials + combined.trials == len(trials.scored(make_search(60)))


def test_one_loss_has_one_entry_with_all_its_parameters():
    (only,) = importances(make_search(40, losses=("asl",)))

    assert set(only.fractions) == {"learning_rate", "dropout", "layers", "margin", "gamma"}


@pytest.mark.parametrize("count", [0, 1, 2, MIN_TRIALS - 1])
def test_few_trials_give_a_reason_and_no_importances(count):
    found = [make_trial(0.1 * place, {"learning_rate": 1e-4 + 1e-5 * place, "layers": 1}) for place in range(count)]
    one = importance(make_study(*found))

    assert one.fractions == {}
    assert one.unavailable_because == f"it needs {MIN_TRIALS} complete trials, and there are {count}"


def test_equal_scores_and_single_parameters_give_a_reason():
    same = [make_trial(0.5, {"learning_rate": 1e-4 + 1e-5 * place, "dropout": 0.01 * place}) for place in range(9)]
    single = [make_trial(0.1 * place, {"learning_rate": 1e-4 + 1e-5 * place, "layers": 1}) for place in range(9)]

    assert importance(make_study(*same)).unavailable_because == "all complete trials have the same score"
    assert "fewer than two parameters" in importance(make_study(*single)).unavailable_because


def test_the_first_of_two_objectives_decides():
    found = [
        make_trial(
            (1.0 if place % 10 == 0 else place / 1000, 5.0),
            {"learning_rate": 9e-4 if place % 10 == 0 else 1e-5 * (1 + place % 9), "dropout": (place * 7 % 50) / 100},
        )
        for place in range(60)
    ]
    fractions = importance(make_study(*found, directions=("maximize", "minimize"))).fractions

    assert fractions["learning_rate"] > 0.8


def test_retried_trials_do_not_count():
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
