"""The contents of the report that come from settings, data and environment."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from trainer import report_data
from trainer.config import TrainConfig, run_parameters
from trainer.core import environment
from trainer.core.errors import DataError
from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.evaluation import add_test, check_dev, evaluate_dev
from trainer.model.config import LossConfig
from trainer.reporting import summary
from trainer.reporting.report import show

NAMES = ("joy", "grief", "pride")


def split(seed, absent=()):
    rng = np.random.default_rng(seed)
    labels = (rng.random((60, 3)) < 0.4).astype(np.float32)
    labels[:, list(absent)] = 0
    logits = rng.normal(size=labels.shape) + 2 * labels - 1
    observed = np.ones(labels.shape, dtype=bool)
    return LabelledScores(label_names=NAMES, scores=logits, labels=labels, observed=observed, kind="logits")


@pytest.fixture(scope="module")
def evaluation():
    dev = evaluate_dev(split(0, absent=[1]), calibration="auto", policy="global", folds=5, seed=0)
    return add_test(dev, split(1, absent=[2]), resamples=100, seed=0)


def test_every_fact_of_the_environment_is_text_and_no_dict():
    for rows in report_data.environment_sections(environment.describe()).values():
        assert rows
        for value in rows.values():
            assert not set("{}[]") & set(show(value))


def test_only_changed_settings_are_listed():
    assert report_data._changed(TrainConfig()) == {"preset": "starter"}


def test_labels_without_positives_are_warnings_with_their_split(evaluation):
    dev, test = sorted(summary.absent_labels(evaluation))
    assert "dev: grief" in dev
    assert "test: pride" in test


def test_each_estimate_of_macro_f1_on_dev_has_its_metric(evaluation):
    metrics = evaluation.metrics()
    assert metrics["dev/final/macro_f1"] == evaluation.dev["macro_f1"]
    assert metrics["dev/nested_macro_f1"] == evaluation.choice.scores["global"]
    assert not {"dev/macro_f1", "dev/micro_f1", "dev/macro_ap"} & set(metrics)


def test_in_short_has_the_score_and_the_weak_labels(evaluation):
    text = " ".join(summary.in_short(evaluation))
    assert f"{evaluation.test['global']['macro_f1']:.3f}" in text
    assert "pride" not in text.split("F1 is below")[-1]


def test_a_dev_split_without_a_positive_is_refused():
    observed = np.ones((20, 2), dtype=bool)
    with pytest.raises(DataError, match="no positive"):
        check_dev(np.zeros((20, 2)), observed, folds=5)
    with pytest.raises(DataError, match=r"at least 5 .* got 3"):
        check_dev(np.ones((3, 2)), observed[:3], folds=5)


def test_the_baseline_is_the_macro_f1_of_predicting_everything():
    labels = split(3).labels
    expected = f1_score(labels >= 0.5, np.ones(labels.shape), average="macro")

    assert f"{expected:.3f}" in summary.baseline(labels, np.ones(labels.shape, bool))


@pytest.mark.parametrize(
    ("losses", "scores", "words"),
    [
        ([1.0, 1.6, 1.7], [0.4, 0.5, 0.45], ["step 20", "0.450", "1.700", "overfits"]),
        ([1.0, 0.9, 0.91], [0.4, 0.5, 0.45], ["step 20", "0.450"]),
        ([1.0, 1.6, 1.7], [0.4, 0.5, 0.6], ["last evaluation", "1.700", "overfits"]),
        ([1.0, 0.9, 0.8], [0.4, 0.5, 0.6], ["more epochs"]),
        ([1.0], [0.4], []),
    ],
)
def test_the_curves_say_whether_the_training_was_too_long_or_too_short(losses, scores, words):
    history = [{"step": 5.0, "train/loss": 2.0}]
    history += [
        {"step": 10.0 * place, "dev/loss": loss, "dev/macro_f1": score}
        for place, (loss, score) in enumerate(zip(losses, scores, strict=True), start=1)
    ]
    text = " ".join(summary.training(history))

    assert [word for word in words if word not in text] == []
    assert ("overfits" in text) is ("overfits" in words)


def test_parameters_leave_out_what_the_loss_does_not_read():
    config = TrainConfig(loss=LossConfig(loss="asl"))
    assert {"margin", "epochs", "seed", "processes"} < set(run_parameters(config))
    assert not {"alpha", "ratio", "output", "preset", "resume"} & set(run_parameters(config))


def test_a_run_says_what_was_trained_and_where_its_tables_are(evaluation):
    note = report_data.run_note(TrainConfig(), evaluation, "#/experiments/1/runs/r")
    assert note.startswith(f"On test: macro F1 {evaluation.test['global']['macro_f1']:.3f} (")
    assert "\n\n3 labels of data set starter, encoder starter, loss combined, seed 42." in note
    assert "[mistakes](#/experiments/1/runs/r/artifacts/errors.json)" in note
    assert "report.html" not in report_data.run_note(TrainConfig(), replace(evaluation, test={}), "")
