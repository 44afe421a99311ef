"""The gate as tables of cases: which candidates pass it, and which rule refuses the others."""

import dataclasses

import numpy as np
import pytest
from registry_helpers import FINE, LABELS, make_scored, make_truth

from registry.config import CheckConfig, GateConfig
from registry.promotion import gate
from trainer.core.errors import SettingsError

LOOSE = {"max_label_drop": 1.0, "max_ece_increase": 1.0}


def broken(verdict):
    return [rule.name for rule in verdict.rules if not rule.passed]


@pytest.mark.parametrize(
    ("champion", "candidate", "config", "stopped_by"),
    [
        (0.70, 0.90, {}, []),
        (0.90, 0.70, LOOSE, ["macro-F1 gain"]),
        (0.80, 0.80, LOOSE, ["macro-F1 gain"]),
        (0.80, 0.82, LOOSE, ["macro-F1 gain"]),  # better, and the interval has 0 in it
        (0.80, 0.82, {**LOOSE, "min_gain": -0.1}, []),
        (0.70, 0.90, {"min_gain": 0.5}, ["macro-F1 gain"]),
    ],
)
def test_the_interval_of_the_gain_must_lie_above_the_limit(champion, candidate, config, stopped_by):
    verdict = gate.compare(make_scored(candidate, seed=1), make_scored(champion, seed=2), GateConfig(**config))

    assert broken(verdict) == stopped_by
    assert verdict.accepted == (not stopped_by)
    assert verdict.difference.low <= verdict.figures["delta_macro_f1"] <= verdict.difference.high


def change(scored, **arrays):
    """The same model with other thresholds, or other arrays of its scores."""
    thresholds = arrays.pop("thresholds", scored.thresholds)
    return dataclasses.replace(scored, scores=dataclasses.replace(scored.scores, **arrays), thresholds=thresholds)


def turned(scored, label):
    """The same model with one label always the wrong way round."""
    changed = scored.scores.probabilities.copy()
    changed[:, label] = 1 - changed[:, label]
    return change(scored, scores=changed)


@pytest.mark.parametrize(("limit", "stopped"), [(0.1, True), (0.9, False)])
def test_a_large_drop_of_a_frequent_label_is_refused(limit, stopped):
    champion, candidate = make_scored(0.75, seed=2), make_scored(0.99)
    candidate = turned(candidate, 1)
    verdict = gate.compare(candidate, champion, GateConfig(max_label_drop=limit, max_ece_increase=1))

    assert ("F1 drop per label" in broken(verdict)) is stopped
    rule = next(rule for rule in verdict.rules if rule.name == "F1 drop per label")
    assert "grief" in rule.value


def test_equal_models_pass_the_guard_of_every_label(monkeypatch):
    """By point estimates, noise alone refuses one in ten of these candidates: 12 labels with about 40 positives."""
    monkeypatch.setattr("gc.collect", lambda: 0)  # statsmodels' correction calls it, for 0.1 s each time
    refused, refused_by_point = 0, 0
    for seed in range(60):
        truth = (np.random.default_rng(seed).random((600, 12)) < 0.07).astype(np.float32)
        candidate, champion = (
            make_scored(0.9, truth, seed=2 * seed + one, names=tuple("abcdefghijkl")) for one in (1, 2)
        )
        verdict = gate.compare(candidate, champion, GateConfig(bootstrap_resamples=200))
        refused += "F1 drop per label" in broken(verdict)
        gaps = [
            gap.difference
            for gap, count in zip(verdict.difference.per_label, candidate.support, strict=True)
            if count >= 40
        ]
        refused_by_point += min(gaps, default=0) < -0.1
    assert refused_by_point >= 6
    assert refused <= 1


def judge_seeds(candidate, champion, min_seeds=3, **limits):
    """The verdict on models of these qualities, by seed; the first of each is candidate and champion."""
    models = [{seed: make_scored(quality, seed=seed) for seed, quality in one.items()} for one in (candidate, champion)]
    predictions = [{seed: model.predictions for seed, model in one.items()} for one in models]
    first, second = (next(iter(one.values())) for one in models)
    config = GateConfig(**LOOSE, min_seeds=min_seeds, **limits)
    return gate.compare(first, second, config, gate.SeedPredictions(*predictions))


GOOD, FAIR = dict.fromkeys((1, 2, 3), 0.95), dict.fromkeys((1, 2, 3), 0.8)


@pytest.mark.parametrize(
    ("candidate", "champion", "limits", "stopped_by"),
    [
        (GOOD, FAIR, {}, []),
        (GOOD, {7: 0.8}, {}, []),
        (GOOD, FAIR, {"min_gain": 0.5}, ["macro-F1 gain", "macro-F1 gain over seeds"]),
        ({1: 0.95, 2: 0.75, 3: 0.8}, FAIR, {}, ["macro-F1 gain over seeds"]),  # the candidate itself was lucky
        ({1: 0.95, 2: 0.95}, FAIR, {}, ["seeds"]),
    ],
)
def test_the_candidates_settings_must_win_with_several_seeds(candidate, champion, limits, stopped_by):
    assert broken(judge_seeds(candidate, champion, **limits)) == stopped_by


@pytest.mark.parametrize(
    ("champion", "said"), [(FAIR, "the champion's same seeds"), ({1: 0.8, 9: 0.8}, "the champion's one model")]
)
def test_the_rule_says_what_stood_for_the_champion(champion, said):
    verdict = judge_seeds(GOOD, champion)
    rule = next(rule for rule in verdict.rules if rule.name == "macro-F1 gain over seeds")
    assert said in rule.value
    assert "seeds 1, 2, 3" in rule.value
    assert verdict.figures["num_seeds"] == 3
    assert verdict.figures["delta_macro_f1_over_seeds_low"] > 0


def test_too_few_seeds_are_named_with_what_to_train():
    rule = next(rule for rule in judge_seeds({1: 0.95, 3: 0.95}, FAIR, min_seeds=4).rules if rule.name == "seeds")
    assert not rule.passed
    assert rule.value.startswith("2 ")
    assert "(1, 3)" in rule.value
    assert "-P seed=2, -P seed=4" in rule.required


def test_a_first_champion_needs_the_seeds_too():
    candidate = make_scored(0.9)
    verdict = gate.judge_first(
        candidate, GateConfig(min_seeds=2, ceiling_ece=1), gate.SeedPredictions({1: candidate.predictions})
    )
    assert broken(verdict) == ["seeds"]


@pytest.mark.parametrize(("positives", "stopped"), [(39, False), (40, True)])
def test_a_rare_label_may_fall(positives, stopped):
    """With 39 positives even a difference of ten points is mostly noise."""
    truth = make_truth()
    truth[:, 1] = np.arange(len(truth)) < positives
    champion, candidate = make_scored(0.75, truth, seed=2), make_scored(0.99, truth)
    candidate = turned(candidate, 1)

    verdict = gate.compare(candidate, champion, GateConfig(max_ece_increase=1))
    assert ("F1 drop per label" in broken(verdict)) is stopped


@pytest.mark.parametrize(("limit", "stopped"), [(0.01, True), (0.5, False)])
def test_calibration_must_not_get_much_worse(limit, stopped):
    champion, candidate = make_scored(0.7, seed=2), make_scored(0.9)
    shy = change(candidate, scores=0.5 + (candidate.scores.probabilities - 0.5) / 10)
    verdict = gate.compare(shy, champion, GateConfig(max_ece_increase=limit))

    assert broken(verdict) == (["calibration error"] if stopped else [])


@pytest.mark.parametrize(
    ("quality", "config", "stopped_by"),
    [
        (0.9, {}, []),
        (0.9, {"floor_macro_f1": 0.95}, ["macro F1"]),
        (0.75, {"floor_macro_f1": 0.0}, []),
        (0.55, {}, ["macro F1", "better than predicting every label"]),
    ],
)
def test_a_first_champion_must_reach_floors(quality, config, stopped_by):
    verdict = gate.judge_first(make_scored(quality), GateConfig(**config))

    assert broken(verdict) == stopped_by
    assert verdict.difference is None


def test_a_first_champion_must_beat_one_that_gives_every_label():
    """Where nearly every label is present, a high score is no merit."""
    scored = make_scored(0.75)
    present = np.ones_like(scored.scores.labels)
    present[::10] = 0
    probabilities = np.where(present > 0, 0.8, 0.6)
    dense = change(scored, labels=np.ones_like(present), scores=probabilities, thresholds=np.full(len(LABELS), 0.7))

    assert "better than predicting every label" in broken(gate.judge_first(dense, GateConfig(ceiling_ece=1)))


def test_a_first_champion_must_be_calibrated():
    scored = make_scored(0.9)
    shy = change(scored, scores=0.5 + (scored.scores.probabilities - 0.5) / 10)

    assert broken(gate.judge_first(shy, GateConfig())) == ["calibration error"]


def test_a_first_champion_of_a_loss_that_shifts_logits_must_be_calibrated():
    """Over all cells its error is below the ceiling, because most labels are rare and rightly near 0."""
    shifted = gate.judge_first(rare_labels(shift=1.2), GateConfig())

    assert shifted.figures["ece"] < 0.05
    assert "calibration error" in broken(shifted)
    assert "calibration error" not in broken(gate.judge_first(rare_labels(shift=0.0), GateConfig()))


def test_a_model_that_answers_zero_is_refused():
    model = rare_labels(shift=0.0)
    silent = change(model, scores=np.zeros_like(model.scores.probabilities))

    assert gate.judge_first(silent, GateConfig()).figures["ece"] < 0.05
    assert "calibration error" in broken(gate.judge_first(silent, GateConfig()))
    assert "calibration error" in broken(gate.compare(silent, model, GateConfig()))
    assert "calibration error" not in broken(gate.compare(model, silent, GateConfig()))


@pytest.mark.parametrize("rows", [60, 224])
def test_calibrated_models_pass_the_rule_for_calibration(rows):
    """By point estimates, noise alone refuses one in five or more of these candidates."""
    refused = refused_by_point = 0
    for seed in range(30):
        first, second = rare_labels(shift=0.0, rows=rows, seed=seed), rare_labels(shift=0.0, rows=rows, seed=seed, by=1)
        verdict = gate.compare(first, second, GateConfig(bootstrap_resamples=200))
        refused += "calibration error" in broken(verdict)
        refused_by_point += verdict.figures["ece_likely"] - verdict.figures["champion_ece_likely"] > 0.01
    assert refused_by_point >= 6
    assert refused <= 2


def rare_labels(shift, rows=400, seed=0, by=0):
    """A model with 20 labels, most of them rare; its logits are `shift` above calibrated ones. by: another model."""
    rng = np.random.default_rng(seed)
    common = rng.normal(np.linspace(-8.5, -5.5, 20), 1.0, (rows, 20))
    parts = [rng.normal(0, 1.5, common.shape) for _ in range(2)]
    labels = (rng.random(common.shape) < 1 / (1 + np.exp(-(common + parts[0] + parts[1])))).astype(np.float32)
    known = common + parts[by]  # the other part is unknown to this model, which shrinks its logits
    logits = known / np.sqrt(1 + np.pi * 1.5**2 / 8) + shift
    scores = dataclasses.replace(
        make_scored(0.9, labels, names=tuple("abcdefghijklmnopqrst")).scores, scores=1 / (1 + np.exp(-logits))
    )
    return gate.ModelScores(scores, np.full(20, 0.2))


def test_each_model_is_judged_by_its_thresholds():
    champion = make_scored(0.9)
    timid = dataclasses.replace(champion, thresholds=np.full(len(LABELS), 0.99))

    assert gate.compare(timid, champion, GateConfig()).figures["delta_macro_f1"] == pytest.approx(-champion.macro_f1)


def test_unobserved_cells_do_not_count():
    champion, candidate = make_scored(0.7, seed=2), make_scored(0.9)
    mask = np.ones_like(candidate.scores.observed)
    mask[:50] = False
    seen = [change(one, observed=mask) for one in (candidate, champion)]
    rest = [dataclasses.replace(one, scores=one.scores.take(slice(50, None))) for one in (candidate, champion)]

    masked, rest_only = gate.compare(*seen, GateConfig()).figures, gate.compare(*rest, GateConfig()).figures
    assert masked["delta_macro_f1"] == rest_only["delta_macro_f1"]
    assert masked["ece"] == pytest.approx(rest_only["ece"])


def test_the_same_examples_give_the_same_verdict():
    first, second = (gate.compare(make_scored(0.8), make_scored(0.7, seed=2), GateConfig()) for _ in range(2))

    assert first == second


@pytest.mark.parametrize(
    "setting",
    [{"min_gain": 1}, {"min_seeds": 0}, {"max_label_drop": -0.1}, {"max_ece_increase": 2}, {"bootstrap_resamples": 1}],
)
def test_limits_out_of_range_are_refused(setting):
    (name,) = setting
    with pytest.raises(SettingsError, match=name):
        GateConfig(**setting)


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({}, []),
        ({"foreign_code": "digest 12ab"}, ["code"]),
        ({"score_difference": 2e-4}, ["probabilities"]),
        ({"score_difference": float("nan")}, ["probabilities"]),
        ({"label_differences": 1}, ["served as judged"]),
        ({"setting_differences": ("calibration differs",)}, ["served as judged"]),
        ({"latency_ms_p95": 501.0}, ["latency p95"]),
        ({"size_mb": 2001.0}, ["model size"]),
    ],
)
def test_each_measurement_of_the_model_has_a_rule(change, failed):
    rules = gate.check_rules(dataclasses.replace(FINE, **change), CheckConfig())
    assert [rule.name for rule in rules if not rule.passed] == failed
    assert len(rules) == 6


def test_foreign_code_passes_where_it_is_allowed():
    foreign = dataclasses.replace(FINE, foreign_code="not examined")
    assert all(rule.passed for rule in gate.check_rules(foreign, CheckConfig(allow_foreign_code=True)))


def test_a_model_without_measurements_does_not_load():
    (rule,) = gate.check_rules("its process ended with status 1: pickle", CheckConfig())
    assert (rule.name, rule.passed, rule.value) == ("loads", False, "its process ended with status 1: pickle")


@pytest.mark.parametrize(("left", "passed"), [({"dev": 0, "test": 0}, True), ({"test": 2}, False)])
def test_no_example_of_dev_or_test_may_be_in_train(left, passed):
    assert gate.leak_rule(left).passed is passed
