from dataclasses import replace

import numpy as np
import pytest
from evaluation_helpers import labelled
from sklearn.metrics import f1_score
from statsmodels.stats.multitest import multipletests

from trainer.core.errors import DataError, SettingsError
from trainer.evaluation.comparison import System, compare_systems, holm, verdict_sentence
from trainer.evaluation.resampling import Resampling

FEW = Resampling(num_resamples=300, seed=1)


def case(error_rates, *, seeds=3, examples=300, labels=4, seed=0):
    """Scores of made-up labels, and one system per error rate."""
    rng = np.random.default_rng(seed)
    truth = rng.random((examples, labels)) < 0.3
    systems = [
        System(name=name, predictions={s: truth ^ (rng.random(truth.shape) < rate) for s in range(seeds)})
        for name, rate in error_rates.items()
    ]
    return labelled(np.zeros(truth.shape), truth), systems


def test_a_clearly_better_system_wins_and_the_sentence_says_by_how_much():
    scores, systems = case({"good": 0.05, "bad": 0.2})
    found = compare_systems(scores, systems, planned=[("bad", "good")], min_effect=0.01, resampling=FEW)
    (pair,) = found.pairs
    truth = scores.positives
    by_seed = [
        [f1_score(truth, one, average="macro") for one in system.predictions.values()] for system in reversed(systems)
    ]
    assert pair.difference == pytest.approx(np.mean(by_seed[0]) - np.mean(by_seed[1]))
    assert pair.low < pair.difference < pair.high < 0
    assert pair.verdict == "worse"
    assert pair.p_corrected == pair.p_value < 0.01
    assert pair.p_permutation == pytest.approx(1 / 301)
    assert pair.effect_low < pair.effect_size < pair.effect_high
    assert verdict_sentence(pair) == f"good beats bad by {-pair.difference:.3f} [{-pair.high:.3f}, {-pair.low:.3f}]"
    assert found.systems[0].by_seed == pytest.approx(by_seed[1])
    assert found.systems[0].low < found.systems[0].score < found.systems[0].high
    assert found.interval_sources == "seeds and examples"


def test_holm_runs_over_planned_pairs_alone():
    scores, systems = case({"a": 0.20, "b": 0.21, "c": 0.19, "d": 0.22})
    planned = [("a", "b"), ("a", "c"), ("a", "d")]
    pairs = compare_systems(scores, systems, planned=planned, min_effect=0.0, resampling=FEW).pairs
    expected = multipletests([pair.p_value for pair in pairs[:3]], method="holm")[1]
    assert [pair.p_corrected for pair in pairs[:3]] == pytest.approx(expected)
    assert [(pair.first, pair.second) for pair in pairs[3:]] == [("b", "c"), ("b", "d"), ("c", "d")]
    assert [pair.p_corrected for pair in pairs[3:]] == [None, None, None]
    assert verdict_sentence(pairs[3]).endswith("(exploratory)")


@pytest.mark.parametrize("p_values", [[0.04, 0.001, 0.03, 0.03], [0.5, 0.9], [0.2], [1e-12, 1.0, 0.01]])
def test_holm_equals_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_no_p_values_have_no_correction():
    assert holm([]) == []


def test_a_system_is_equivalent_to_itself():
    scores, (one,) = case({"a": 0.1})
    systems = [one, System(name="b", predictions=one.predictions)]
    (pair,) = compare_systems(scores, systems, planned=[("a", "b")], min_effect=0.0, resampling=FEW).pairs
    assert (pair.difference, pair.low, pair.high, pair.p_value, pair.p_permutation) == (0.0, 0.0, 0.0, 1.0, 1.0)
    assert (pair.verdict, pair.effect_size) == ("equivalent", None)


def test_one_seed_gives_intervals_over_examples_and_says_so():
    scores, systems = case({"a": 0.1, "b": 0.12}, seeds=1)
    found = compare_systems(scores, systems, planned=[("a", "b")], min_effect=0.0, resampling=FEW)
    assert found.interval_sources == "examples"
    assert found.pairs[0].effect_size is None
    assert found.pairs[0].seeds == (0,)


def test_a_label_without_a_positive_is_left_out():
    scores, systems = case({"a": 0.1, "b": 0.12})
    truth = scores.labels.copy()
    truth[:, 2] = 0.0
    found = compare_systems(labelled(scores.scores, truth), systems, planned=[], min_effect=0.0, resampling=FEW)
    assert found.left_out == ("label 2",)
    assert [one is None for one in found.pairs[0].per_label] == [False, False, True, False]
    assert found.systems[0].per_label[2] is None


def test_pairs_without_a_common_seed_are_named():
    scores, (a, b) = case({"a": 0.1, "b": 0.12})
    late = System(name="late", predictions={seed + 10: one for seed, one in b.predictions.items()})
    found = compare_systems(scores, [a, b, late], planned=[("a", "late")], min_effect=0.0, resampling=FEW)
    assert found.unpaired == (("a", "late"), ("b", "late"))
    assert [(one.first, one.second, one.planned) for one in found.pairs] == [("a", "b", False)]
    with pytest.raises(DataError, match="no seed is common"):
        compare_systems(scores, [a, late], planned=[], min_effect=0.0, resampling=FEW)


@pytest.mark.parametrize("planned", [[("a", "c")], [("a", "a")], [("a", "b"), ("b", "a")]])
def test_wrong_pairs_are_refused(planned):
    scores, systems = case({"a": 0.1, "b": 0.12})
    with pytest.raises(SettingsError, match="`planned`"):
        compare_systems(scores, systems, planned=planned, min_effect=0.0, resampling=FEW)


def test_wrong_input_is_refused():
    scores, (a, b) = case({"a": 0.1, "b": 0.12})
    shorter = System(name="short", predictions={4: b.predictions[0][:-1]})
    with pytest.raises(DataError, match="short, seed 4: `predictions`"):
        compare_systems(scores, [a, shorter], planned=[], min_effect=0.0, resampling=FEW)
    with pytest.raises(SettingsError, match="`systems`"):
        compare_systems(scores, [a, a], planned=[], min_effect=0.0, resampling=FEW)
    with pytest.raises(SettingsError, match="`metric`"):
        compare_systems(scores, [a, b], planned=[], min_effect=0.0, resampling=FEW, metric="f2")
    with pytest.raises(SettingsError, match="`min_effect`"):
        compare_systems(scores, [a, b], planned=[], min_effect=float("nan"), resampling=FEW)
    with pytest.raises(DataError, match="`groups`"):
        compare_systems(scores, [a, b], planned=[], min_effect=0.0, resampling=FEW, groups=np.zeros(3, int))


def test_the_p_value_of_a_label_is_about_its_f1():
    """Two runs have the same F1 of a label, and one has many more examples right."""
    truth = np.zeros((400, 1), bool)
    truth[:40] = True
    bold, timid = np.zeros_like(truth), np.zeros_like(truth)
    bold[:30], bold[40:130] = True, True  # F1 60 / 160
    timid[:11], timid[40:48] = True, True  # F1 22 / 59
    systems = [System(name="bold", predictions={0: bold}), System(name="timid", predictions={0: timid})]
    (pair,) = compare_systems(labelled(np.zeros(truth.shape), truth), systems, resampling=FEW).pairs
    (gap,) = pair.per_label
    assert abs(gap.difference) < 0.005
    assert gap.low < 0 < gap.high
    assert gap.p_value == gap.p_corrected > 0.5
    assert gap.p_mcnemar < 1e-6


@pytest.mark.parametrize(("seeds", "groups"), [(2, None), (1, np.arange(300) // 2)])
def test_mcnemars_test_is_absent_with_several_seeds_or_groups(seeds, groups):
    scores, systems = case({"a": 0.1, "b": 0.12}, seeds=seeds)
    (pair,) = compare_systems(scores, systems, resampling=FEW, groups=groups).pairs
    assert {gap.p_mcnemar for gap in pair.per_label} == {None}


def test_a_system_with_one_seed_is_named_and_the_others_keep_theirs():
    scores, (a, b, c) = case({"a": 0.1, "b": 0.12, "c": 0.2})
    short = System(name="c", predictions={0: c.predictions[0]})
    found = compare_systems(scores, [a, b, short], planned=[("b", "a"), ("c", "a")], resampling=FEW)
    assert found.interval_sources == "seeds and examples"
    assert found.of_one_seed == ("c",)
    assert [len(pair.seeds) for pair in found.pairs] == [3, 1, 1]
    apart = System(name="c", predictions={0: c.predictions[0], 7: c.predictions[1]})
    assert compare_systems(scores, [a, apart], resampling=FEW).of_one_seed == ("a - c",)


def test_a_pair_that_could_not_be_compared_counts_in_the_correction():
    scores, systems = case({"a": 0.20, "b": 0.21, "c": 0.19})
    planned = [("b", "a"), ("c", "a")]
    pairs = compare_systems(scores, systems, planned=planned, num_planned=4, resampling=FEW).pairs
    p_values = [pair.p_value for pair in pairs[:2]]
    assert [pair.p_corrected for pair in pairs[:2]] == pytest.approx(
        multipletests([*p_values, 1.0, 1.0], method="holm")[1][:2]
    )
    assert {pair.num_planned for pair in pairs} == {4}
    alone = compare_systems(scores, systems, planned=planned, resampling=FEW).pairs
    assert pairs[0].detectable > alone[0].detectable


def test_what_a_design_detects_has_the_variance_of_all_planned_pairs():
    scores, (a, b, c) = case({"a": 0.20, "b": 0.20, "c": 0.20})
    still = System(name="b", predictions=dict.fromkeys(range(3), b.predictions[0]))
    moved = System(name="c", predictions={0: c.predictions[0], 1: ~c.predictions[1], 2: c.predictions[2]})
    fixed = System(name="a", predictions=dict.fromkeys(range(3), a.predictions[0]))
    pairs = compare_systems(scores, [fixed, still, moved], planned=[("b", "a"), ("c", "a")], resampling=FEW).pairs
    assert [pair.detectable_degrees for pair in pairs] == [4, 4, 4]
    assert pairs[0].detectable == pytest.approx(pairs[1].detectable, rel=0.3)
    assert pairs[0].high - pairs[0].low < 0.5 * (pairs[1].high - pairs[1].low)  # intervals have their own


def test_a_sentence_says_where_the_interval_is_not_corrected():
    scores, systems = case({"a": 0.20, "b": 0.21})
    (pair,) = compare_systems(scores, systems, planned=[("a", "b")], num_planned=4, resampling=FEW).pairs
    hidden = replace(pair, verdict="not_shown", difference=-0.03, low=-0.058, high=-0.002, detectable=0.05)
    assert "[-0.058, -0.002] (not corrected for 4 planned pairs)" in verdict_sentence(hidden)
    assert "not corrected" not in verdict_sentence(replace(hidden, high=0.002))
    assert verdict_sentence(hidden).endswith("this design detects about 0.050 or more")
