"""A run on train and dev together, by what an earlier run had chosen."""

import shutil

import pytest
from train_helpers import LABELS, ROWS, as_scores, client, predictions, read_json, runs_of

from registry.promotion.candidates import read_candidate
from trainer.config import EvaluationConfig
from trainer.core import artifacts, text_files
from trainer.evaluation import metrics, thresholds
from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.calibration import Calibration, calibrate
from trainer.fit.step import Stepper

STEPS = 24
"""Of the schedule: 3 epochs of 120 rows, 16 in a step."""


@pytest.fixture
def first(finished, in_tmp):
    """The id of a finished run, whose best weights are those at two thirds of its schedule."""
    folder = in_tmp / "runs" / finished.run.info.run_id
    folder.mkdir(parents=True)
    for path in finished.folder.glob("*.json"):
        shutil.copy(path, folder)
    scores = read_json(folder / artifacts.OUTCOME)
    assert scores[artifacts.SCHEDULE_STEPS] == 15
    assert 0 < scores[artifacts.BEST_STEP] <= 15
    text_files.write_json(folder / artifacts.OUTCOME, scores | {artifacts.BEST_STEP: 10})
    return folder.name


@pytest.fixture
def only_run_of(tracking_uri, in_tmp):
    """The one run of the store, with its folder."""

    def find():
        (run,) = runs_of(tracking_uri)
        return run, in_tmp / "runs" / run.info.run_id

    return find


def test_it_trains_on_both_and_measures_test(train, first, finished, only_run_of, tracking_uri, capsys):
    assert train(retrain_from=first) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "test 40; trained on, dev included, 120" in printed
    assert "steps the first 16 of 24" in printed
    run, folder = only_run_of()
    facts = read_json(folder / artifacts.DATASET)
    assert facts["rows"] == ROWS
    assert facts["rows_trained_on"] == ROWS["train"] + ROWS["dev"]
    assert facts["digests"] == read_json(finished.folder / artifacts.DATASET)["digests"]
    assert facts["left_in_train"] == {"test": 0}

    logged = run.data.metrics
    assert not [name for name in logged if name.startswith("dev/")]
    steps = [point.step for point in client(tracking_uri).get_metric_history(run.info.run_id, "train/loss")]
    assert steps[-1] == STEPS * 10 // 15
    assert "dev/best_step" not in read_json(folder / artifacts.OUTCOME)

    _, test = predictions(folder, "test")
    assert not (folder / artifacts.predictions_file("dev")).exists()
    # The model has learned the labels of dev, wrong ones too.
    assert [(at / artifacts.LABEL_ERRORS).exists() for at in (folder, finished.folder)] == [False, True]
    assert {row[-1] for row in read_json(folder / artifacts.ERRORS)["data"]} == {"test"}
    logits = LabelledScores(label_names=LABELS, kind="logits", **as_scores(test))
    reused, fitted = (Calibration.of(read_json(at / artifacts.CALIBRATION)) for at in (folder, finished.folder))
    assert reused == fitted
    scores = calibrate(logits, reused)
    outcome = read_json(folder / artifacts.OUTCOME)
    kept, chosen = (read_json(at / artifacts.THRESHOLDS) for at in (finished.folder, folder))
    assert chosen == kept | {"of_run": first}
    for policy, per_label in kept["policies"].items():
        predicted = thresholds.predict(scores.probabilities, [per_label[label] for label in LABELS])
        found = metrics.headline(scores, predicted)
        assert outcome[f"test/macro_f1/{policy}"] == pytest.approx(found["macro_f1"], abs=1e-12)
    card = (folder / artifacts.MODEL_CARD).read_text(encoding="utf-8")
    assert f"those of run {first}, which held dev out" in card
    assert f"those of run {first}, which held dev out" in (folder / artifacts.REPORT).read_text(encoding="utf-8")
    (model,) = client(tracking_uri).search_logged_models([run.info.experiment_id])
    assert model.source_run_id == run.info.run_id


def test_the_registry_takes_it(train, first, only_run_of, tracking_uri, tmp_path):
    assert train(retrain_from=first) == 0
    run, folder = only_run_of()
    candidate = read_candidate(client(tracking_uri), run.info.run_id, tmp_path / "fetched")
    assert candidate.dev_score is None
    assert candidate.test_digest == read_json(folder / artifacts.DATASET)["digests"]["test"]
    assert candidate.test_scores.macro_f1 == pytest.approx(run.data.metrics["test/macro_f1"], abs=1e-12)


def test_it_continues_after_a_stop(train, first, only_run_of, monkeypatch):
    assert train(retrain_from=first, checkpoint_steps=3) == 0
    _, folder = only_run_of()
    expected = predictions(folder, "test")[1]["logits"].tolist()
    shutil.rmtree(folder)

    taken, real = [], Stepper.step

    def step(self, *rows):
        taken.append(rows)
        if len(taken) == 9:
            raise KeyboardInterrupt
        return real(self, *rows)

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", step)
        assert train(retrain_from=first, checkpoint_steps=3) == 130
    (stopped,) = (path.parent for path in folder.parent.glob("*/checkpoints"))
    assert train(retrain_from="", resume=stopped.name, checkpoint_steps=3) == 1
    assert train(retrain_from=first, resume="latest", checkpoint_steps=3) == 0
    assert predictions(stopped, "test")[1]["logits"].tolist() == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retrain_from": "nothing"}, "`retrain_from` must be a finished run"),
        ({"learning_rate": 2e-3}, "learning_rate: 0.001 then, 0.002 now"),
        ({"overlap": "keep"}, "overlap: drop then, keep now"),
        ({"read_test": "false"}, "`read_test` must be true"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_run_begins(train, first, tracking_uri, changes, message, capsys):
    assert train(**({"retrain_from": first} | changes)) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert runs_of(tracking_uri) == []


def test_data_that_changed_are_refused(train, first, in_tmp, capsys):
    path = in_tmp / "runs" / first / artifacts.DATA
    text_files.write_json(path, read_json(path) | {"dev": "0"})
    assert train(retrain_from=first) == 1
    assert "other examples in dev" in " ".join(capsys.readouterr().err.split())


def test_dev_does_not_go_through_the_model(observe, first, in_tmp, base_settings):
    same = {"epochs": base_settings["epochs"], "threshold_folds": EvaluationConfig().threshold_folds}
    seen = observe(retrain_from=first, output=in_tmp / "runs", **same)
    assert seen.status == 0, seen.error
    assert sum(seen.eval_batches) == ROWS["test"]
    assert seen.loop.dev is None
    assert len(seen.loop.train) == ROWS["train"] + ROWS["dev"]
