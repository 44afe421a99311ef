import numpy as np
import pytest
from evaluation_helpers import fit_policy, labelled

from trainer.core.errors import DataError, SettingsError
from trainer.evaluation.cross_validation import STRENGTHS, choose_policy, cross_fitted_predictions, stratified_folds
from trainer.evaluation.metrics import macro_f1
from trainer.evaluation.thresholds import POLICIES, predict


def split(seed=0, num_rows=300, num_labels=5):
    rng = np.random.default_rng(seed)
    priors = np.geomspace(0.02, 0.4, num_labels)
    labels = rng.random((num_rows, num_labels)) < priors
    logits = rng.normal(size=labels.shape) + np.log(priors) + 2 * labels
    return 1 / (1 + np.exp(-logits)), labels.astype(np.float32)


def test_folds_are_even_and_spread_rare_labels():
    _, labels = split(num_rows=1003)
    fold_of_example = stratified_folds(labelled(labels, labels), folds=5, seed=3)
    sizes = np.bincount(fold_of_example)
    assert len(sizes) == 5
    assert np.ptp(sizes) <= 1
    rarest = labels[:, labels.sum(axis=0).argmin()] > 0
    assert np.ptp(np.bincount(fold_of_example[rarest], minlength=5)) <= 1
    for column in labels.T:
        by_fold = np.bincount(fold_of_example[column > 0], minlength=5)
        assert np.ptp(by_fold) <= max(2, 0.35 * by_fold.mean())


def test_folds_follow_the_seed():
    _, labels = split()
    np.testing.assert_array_equal(
        stratified_folds(labelled(labels, labels), seed=1), stratified_folds(labelled(labels, labels), seed=1)
    )
    assert (
        stratified_folds(labelled(labels, labels), seed=1) != stratified_folds(labelled(labels, labels), seed=2)
    ).any()


def test_too_few_rows_or_folds():
    with pytest.raises(DataError, match=r"folds \(5\), got 3"):
        stratified_folds(labelled(np.ones((3, 2)), np.ones((3, 2))), seed=0)
    with pytest.raises(SettingsError, match="`folds` must be at least 2, got 1"):
        stratified_folds(labelled(np.ones((3, 2)), np.ones((3, 2))), folds=1, seed=0)
    probabilities, labels = split()
    with pytest.raises(DataError, match=r"`fold_of_example` .* 300 examples"):
        cross_fitted_predictions(labelled(probabilities, labels), "global", fold_of_example=np.zeros(300), strength=1.0)


@pytest.mark.parametrize("policy", POLICIES)
def test_each_fold_is_predicted_with_thresholds_of_the_others(policy):
    probabilities, labels = split()
    observed = np.random.default_rng(1).random(labels.shape) < 0.8
    fold_of_example = stratified_folds(labelled(probabilities, labels, observed), folds=4, seed=0)
    predictions = cross_fitted_predictions(
        labelled(probabilities, labels, observed), policy, fold_of_example=fold_of_example, strength=7.0
    )
    for fold in range(4):
        rest = fold_of_example != fold
        thresholds = fit_policy(policy, labelled(probabilities, labels, observed).take(rest), strength=7.0)
        expected = predict(probabilities[~rest], thresholds)
        np.testing.assert_array_equal(predictions[~rest] & observed[~rest], expected & observed[~rest])


@pytest.mark.parametrize("policy", POLICIES)
def test_a_row_never_sees_its_own_label(policy):
    probabilities, labels = split()
    fold_of_example = stratified_folds(labelled(labels, labels), seed=0)
    changed = np.where((fold_of_example == 2)[:, None], 1 - labels, labels)
    before, after = (
        cross_fitted_predictions(labelled(probabilities, y), policy, fold_of_example=fold_of_example, strength=5.0)
        for y in (labels, changed)
    )
    np.testing.assert_array_equal(before[fold_of_example == 2], after[fold_of_example == 2])
    if policy != "fixed":
        assert (before != after).any()


def test_order_of_rows_changes_nothing_when_folds_go_along():
    probabilities, labels = split()
    fold_of_example = stratified_folds(labelled(labels, labels), seed=0)
    order = np.random.default_rng(5).permutation(len(labels))
    straight = cross_fitted_predictions(
        labelled(probabilities, labels), "per_label_shrunk", fold_of_example=fold_of_example, strength=5.0
    )
    shuffled = cross_fitted_predictions(
        labelled(probabilities[order], labels[order]),
        "per_label_shrunk",
        fold_of_example=fold_of_example[order],
        strength=5.0,
    )
    np.testing.assert_array_equal(straight[order], shuffled)


def test_a_label_with_one_positive_works():
    probabilities = np.linspace(0.05, 0.95, 10).reshape(5, 2)
    labels = np.array([[0, 1], [0, 1], [1, 0], [0, 0], [0, 1]])
    fold_of_example = stratified_folds(labelled(labels, labels), folds=5, seed=0)
    predictions = cross_fitted_predictions(
        labelled(probabilities, labels), "per_label", fold_of_example=fold_of_example, strength=0.0
    )
    assert not predictions[2, 0]
    assert choose_policy(labelled(probabilities, labels), seeds=[0, 1]).policy in POLICIES


def test_choice_reports_plain_crossfit_scores_and_optimism():
    probabilities, labels = split()
    choice = choose_policy(labelled(probabilities, labels), seeds=[0, 1], folds=4)
    assert list(choice.scores) == list(POLICIES)
    assert choice.strength in STRENGTHS
    for policy in ("fixed", "global", "per_label"):
        expected = np.mean([crossfit_score(probabilities, labels, policy, seed) for seed in (0, 1)])
        in_sample = predict(probabilities, fit_policy(policy, labelled(probabilities, labels), strength=0.0))
        assert choice.scores[policy] == pytest.approx(expected)
        assert choice.optimism[policy] == pytest.approx(macro_f1(labelled(probabilities, labels), in_sample) - expected)
    assert choice.errors[max(choice.scores, key=choice.scores.get)] == 0.0
    assert choice == choose_policy(labelled(probabilities, labels), seeds=[0, 1], folds=4)


def crossfit_score(probabilities, labels, policy, seed, strength=0.0):
    fold_of_example = stratified_folds(labelled(labels, labels), folds=4, seed=seed)
    predictions = cross_fitted_predictions(
        labelled(probabilities, labels), policy, fold_of_example=fold_of_example, strength=strength
    )
    return macro_f1(labelled(probabilities, labels), predictions)


@pytest.mark.parametrize("data_seed", range(4))
def test_shrunk_score_is_nested(data_seed):
    probabilities, labels = split(data_seed, num_rows=120, num_labels=8)
    fold_of_example = stratified_folds(labelled(labels, labels), folds=4, seed=0)
    predictions = np.zeros(labels.shape, dtype=bool)
    for fold in range(4):
        rest = fold_of_example != fold
        others = labelled(probabilities[rest], labels[rest])
        inner = {
            strength: macro_f1(
                others,
                cross_fitted_predictions(
                    others, "per_label_shrunk", fold_of_example=fold_of_example[rest], strength=strength
                ),
            )
            for strength in STRENGTHS
        }
        strength = max(inner, key=lambda s: (round(inner[s], 11), s))
        thresholds = fit_policy("per_label_shrunk", others, strength=strength)
        predictions[~rest] = predict(probabilities[~rest], thresholds)
    choice = choose_policy(labelled(probabilities, labels), seeds=[0], folds=4)
    assert choice.scores["per_label_shrunk"] == pytest.approx(macro_f1(labelled(probabilities, labels), predictions))
    plain = [crossfit_score(probabilities, labels, "per_label_shrunk", 0, s) for s in STRENGTHS]
    assert plain[STRENGTHS.index(choice.strength)] == max(plain)


def test_per_label_is_optimistic_about_noise():
    rng = np.random.default_rng(0)
    probabilities, labels = rng.random((200, 8)), rng.random((200, 8)) < 0.05
    choice = choose_policy(labelled(probabilities, labels), seeds=[0, 1, 2])
    assert choice.optimism["per_label"] > 0.02
    assert choice.optimism["fixed"] == pytest.approx(0.0)


@pytest.mark.parametrize("data_seed", range(3))
def test_the_simplest_policy_within_a_standard_error_of_the_best_is_chosen(data_seed):
    probabilities, labels = split(data_seed, num_rows=60, num_labels=8)
    choice = choose_policy(labelled(probabilities, labels), seeds=[0, 1])
    good = [name for name in POLICIES if choice.scores[name] >= max(choice.scores.values()) - choice.errors[name]]
    assert list(POLICIES) == ["fixed", "global", "per_label_shrunk", "per_label"]
    assert choice.policy == good[0]


def test_luck_does_not_choose_a_policy_and_many_examples_do():
    alike = [choose_policy(labelled(*shifted(40, 0.0, seed)), seeds=[0, 1]) for seed in range(8)]
    best = [max(choice.scores, key=choice.scores.get) for choice in alike]
    assert sum(policy.startswith("per_label") for policy in best) >= 3
    assert sum(choice.policy.startswith("per_label") for choice in alike) <= 1
    different = choose_policy(labelled(*shifted(4000, 1.0, seed=0)), seeds=[0])
    assert different.policy.startswith("per_label")


def shifted(num_examples, by, seed):
    """Probabilities whose logits are shifted, from -by for the first label to by for the last; labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.0, 1.5, (num_examples, 6))
    labels = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    return 1 / (1 + np.exp(-(logits + np.linspace(-by, by, 6)))), labels


def test_ties_go_to_the_simplest_policy():
    probabilities = np.repeat([[0.9, 0.1], [0.1, 0.9]], 10, axis=0)
    choice = choose_policy(labelled(probabilities, probabilities > 0.5), seeds=[0])
    assert choice.policy == "fixed"
    assert set(choice.scores.values()) == {1.0}
    assert choice.strength == STRENGTHS[-1]


def test_unobserved_cells_may_hold_anything():
    probabilities, labels = split(num_rows=100)
    observed = np.random.default_rng(1).random(labels.shape) < 0.7
    observed[:3] = False
    spoiled = np.where(observed, probabilities, np.nan), np.where(observed, labels, -3.0)
    assert choose_policy(labelled(*spoiled, observed), seeds=[0]) == choose_policy(
        labelled(probabilities, labels, observed), seeds=[0]
    )


def test_choice_needs_three_folds_and_a_seed():
    probabilities, labels = split(num_rows=20)
    with pytest.raises(SettingsError, match="`folds` must be at least 3"):
        choose_policy(labelled(probabilities, labels), seeds=[0], folds=2)
    with pytest.raises(SettingsError, match="0 seeds"):
        choose_policy(labelled(probabilities, labels), seeds=[])


def test_rows_without_an_observed_cell_do_not_count_as_rows():
    probabilities, labels = split(num_rows=20)
    observed = np.zeros(labels.shape, dtype=bool)
    observed[:6] = True
    expected = choose_policy(labelled(probabilities[:6], labels[:6]), seeds=[0])
    assert choose_policy(labelled(probabilities, labels, observed), seeds=[0]) == expected
    observed[4:] = False
    with pytest.raises(DataError, match=r"folds \(5\), got 4"):
        choose_policy(labelled(probabilities, labels, observed), seeds=[0])
