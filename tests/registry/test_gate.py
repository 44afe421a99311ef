"""The gate as tables of cases: which candidates pass it, and which rule stops the others."""

import dataclasses

import numpy as np
import pytest
from registry_parts import LABELS, make_scored, make_truth

from registry.config import GateConfig
from registry.promotion import gate
from trainer.core.errors import SettingsError

LOOSE = {"max_label_drop": 1.0, "max_ece_increase": 1.0}


def broken(verdict):
    return [rule.name for rule in verdict.rules if not rule.passed]


@pytest.mark.parametrize(
    ("champion", "candidate", "config", "stopped_by"),
    [
        (0.70, 0.90, {}, []),
        (0.90, 0.70, LOOSE, ["gain in macro F1"]),
        (0.80, 0.80, LOOSE, ["gain in macro F1"]),
        (0.80, 0.82, LOOSE, ["gain in macro F1"]),  # better, and not beyond doubt
        (0.80, 0.82, {**LOOSE, "min_gain": -0.1}, []),
        (0.70, 0.90, {"min_gain": 0.5}, ["gain in macro F1"]),
    ],
)
def test_the_gain_must_be_beyond_doubt(champion, candidate, config, stopped_by):
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
def test_no_frequent_label_may_fall_far(limit, stopped):
    champion, candidate = make_scored(0.75, seed=2), make_scored(0.99)
    candidate = turned(candidate, 1)
    verdict = gate.compare(candidate, champion, GateConfig(max_label_drop=limit, max_ece_increase=1))

    assert ("labels that fall" in broken(verdict)) is stopped
    rule = next(rule for rule in verdict.rules if rule.name == "labels that fall")
    assert "grief" in rule.found


@pytest.mark.parametrize(("positives", "stopped"), [(39, False), (40, True)])
def test_a_rare_label_may_fall(positives, stopped):
    """With 39 positives a difference of ten points is noise."""
    truth = make_truth()
    truth[:, 1] = np.arange(len(truth)) < positives
    champion, candidate = make_scored(0.75, truth, seed=2), make_scored(0.99, truth)
    candidate = turned(candidate, 1)

    verdict = gate.compare(candidate, champion, GateConfig(max_ece_increase=1))
    assert ("labels that fall" in broken(verdict)) is stopped


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
        (0.55, {}, ["macro F1", "more than every label for all"]),
    ],
)
def test_a_first_champion_is_held_to_floors(quality, config, stopped_by):
    verdict = gate.open_gate(make_scored(quality), GateConfig(**config))

    assert broken(verdict) == stopped_by
    assert verdict.difference is None


def test_a_first_champion_must_beat_one_that_gives_every_label():
    """Where nearly every label is present, a high score is no merit."""
    scored = make_scored(0.75)
    present = np.ones_like(scored.scores.labels)
    present[::10] = 0
    probabilities = np.where(present > 0, 0.8, 0.6)
    dense = change(scored, labels=np.ones_like(present), scores=probabilities, thresholds=np.full(len(LABELS), 0.7))

    assert "more than every label for all" in broken(gate.open_gate(dense, GateConfig(ceiling_ece=1)))


def test_a_first_champion_must_be_calibrated():
    scored = make_scored(0.9)
    shy = change(scored, scores=0.5 + (scored.scores.probabilities - 0.5) / 10)

    assert broken(gate.open_gate(shy, GateConfig())) == ["calibration error"]


def test_thresholds_that_a_model_is_served_with_decide():
    champion = make_scored(0.9)
    timid = dataclasses.replace(champion, thresholds=np.full(len(LABELS), 0.99))

    assert gate.compare(timid, champion, GateConfig()).figures["delta_macro_f1"] == pytest.approx(-champion.macro_f1)


def test_cells_nobody_observed_do_not_count():
    champion, candidate = make_scored(0.7, seed=2), make_scored(0.9)
    mask = np.ones_like(candidate.scores.observed)
    mask[:50] = False
    seen = [change(one, observed=mask) for one in (candidate, champion)]
    rest = [dataclasses.replace(one, scores=one.scores.take(slice(50, None))) for one in (candidate, champion)]

    masked, cut = gate.compare(*seen, GateConfig()).figures, gate.compare(*rest, GateConfig()).figures
    assert masked["delta_macro_f1"] == cut["delta_macro_f1"]
    assert masked["ece"] == pytest.approx(cut["ece"])


def test_the_same_rows_give_the_same_verdict():
    first, second = (gate.compare(make_scored(0.8), make_scored(0.7, seed=2), GateConfig()) for _ in range(2))

    assert first == second


@pytest.mark.parametrize(
    "setting", [{"min_gain": 1}, {"max_label_drop": -0.1}, {"max_ece_increase": 2}, {"bootstrap_resamples": 1}]
)
def test_limits_out_of_range_are_refused(setting):
    (name,) = setting
    with pytest.raises(SettingsError, match=f"{name} must be"):
        GateConfig(**setting)
