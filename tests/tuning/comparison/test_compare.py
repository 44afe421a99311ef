"""Whole comparisons in this process, with stand-ins for trainings."""

import json

import pytest
from mlflow import MlflowClient

from tests.tuning.comparison import fake_comparison
from tests.tuning.fake_training import CAUSE, FakeExecutor
from tuning.comparison.trainings import key_of
from tuning.study import trials
from tuning.study.trials import Attribute

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed")


def parent_of(comparisons):
    (found,) = [run for run in comparisons.runs() if run.data.tags.get("command") == "compare"]
    return found


def result_of(comparisons, run):
    return json.loads((comparisons.output / run.info.run_id / "comparison.json").read_text())


def compare_by_ids(comparisons, study, difference):
    """The same runs compared by their ids, without training."""
    ids = ",".join(trials.run_id(one) for one in study.trials)
    given = dict.fromkeys(("configs", "comparison", "seeds", "dataset", "epochs", "threshold_folds", "learning_rate"))
    code, output = comparisons.run(runs=ids, **given)
    assert code == 0, output
    (named,) = [run for run in comparisons.runs() if run.info.run_name == "compare 4 finished runs"]
    again = result_of(comparisons, named)["pairs"][0]
    assert (again["first"], again["second"], again["difference"]) == ("combined:0.7", "bce", difference)


def test_every_configuration_is_trained_with_every_seed_and_compared(comparisons):
    stored_before = []

    def train(*about):
        (run_id,) = [run.info.run_id for run in comparisons.runs() if run.info.run_name == "compare c"]
        stored_before.append([file.path for file in MlflowClient().list_artifacts(run_id)])
        fake_comparison.train(*about)

    comparisons.executor = FakeExecutor(train)
    code, output = comparisons.run(configs="bce,combined:0.7", gamma_pos=1)

    assert code == 0, output
    study = comparisons.load("c")
    assert [key_of(one) for one in study.trials] == [(n, s, 0) for s in (42, 43) for n in ("bce", "combined:0.7")]
    parent, runs = parent_of(comparisons), {run.info.run_id: run for run in comparisons.runs()}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for trial in study.trials:
        run, config = runs[trials.run_id(trial)], comparisons.config(trial)
        name, seed, _ = key_of(trial)
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert (run.info.run_name, run.data.tags["comparison.configuration"]) == (f"c {name} seed {seed}", name)
        assert (config["seed"], config["loss"], config["read_test"]) == (seed, name.partition(":")[0], True)
        assert config["epochs"] == 2
    plan = json.loads((comparisons.output / parent.info.run_id / "plan.json").read_text())
    assert (plan["planned"], plan["seeds"], plan["metric"]) == ([["combined:0.7", "bce"]], [42, 43], "macro_f1")
    assert parent.data.params["cfg.planned"] == "combined:0.7 against bce"
    assert "plan.json" in stored_before[0]
    (pair,) = result_of(comparisons, parent)["pairs"]
    assert (pair["first"], pair["second"], pair["planned"]) == ("combined:0.7", "bce", True)
    assert pair["difference"] > 0

    comparisons.executor = FakeExecutor(fake_comparison.train)

    # The same runs count for another comparison, which trains only what is new.
    before = len(runs)
    code, output = comparisons.run(comparison="other", configs="bce,combined:0.7,asl", gamma_pos=1)
    assert code == 0, output
    assert "taken from finished run" in output
    assert len(comparisons.runs()) == before + 1 + 2
    reused = {key_of(one) for one in comparisons.load("other").trials if Attribute.REUSED in one.user_attrs}
    assert reused == {(name, seed, 0) for seed in (42, 43) for name in ("bce", "combined:0.7")}
    (other,) = [run for run in comparisons.runs() if run.info.run_name == "compare other"]
    listed = {(run["configuration"], run["reused"]) for run in result_of(comparisons, other)["runs"]}
    assert listed == {("bce", True), ("combined:0.7", True), ("asl", False)}
    compare_by_ids(comparisons, study, pair["difference"])


def test_a_plan_that_is_changed_is_refused_and_one_that_grows_is_exploratory(comparisons):
    assert comparisons.run(configs="bce,asl", seeds=1)[0] == 0
    code, output = comparisons.run(configs="bce,asl", seeds=2)

    assert code == 1
    assert "seeds" in output
    assert "comparison=c-2" in output
    assert parent_of(comparisons).info.status == "FINISHED"
    code, output = comparisons.run(configs="bce,combined", seeds=1)
    assert (code, "asl is missing" in output) == (1, True)
    code, output = comparisons.run(configs="bce,asl", seeds=1, resamples=300)
    assert (code, "resamples" in output) == (1, True)
    code, output = comparisons.run(configs="bce,asl", seeds=1, epochs=3)
    assert (code, "epochs" in output) == (1, True)

    code, output = comparisons.run(configs="bce,asl,combined", seeds=1)
    assert code == 0, output
    result = result_of(comparisons, parent_of(comparisons))
    assert result["plan"]["exploratory"] == [["combined", "bce"]]
    planned = {(pair["first"], pair["second"]): pair["planned"] for pair in result["pairs"]}
    assert planned[("asl", "bce")]
    assert not any(planned[pair] for pair in planned if "combined" in pair)
    assert len(comparisons.load("c").trials) == 3


def test_a_failed_training_is_no_score_and_the_rest_stands(comparisons):
    plan = comparisons.folder / "plan.yaml"
    plan.write_text("configurations: {bce: {loss: bce}, fast: {loss: bce, learning_rate: 0.1}, asl: {loss: asl}}\n")
    comparisons.behave(fails_above=0.01)
    given = {"file": str(plan), "seeds": 1, "learning_rate": 1e-3}
    code, output = comparisons.run(**given)

    assert code == 1
    assert "fast seed 42" in output
    assert CAUSE in output
    parent = parent_of(comparisons)
    assert parent.info.status == "FAILED"
    result = result_of(comparisons, parent)
    states = {run["configuration"]: (run["state"], run["dev_score"] is None) for run in result["runs"]}
    assert states == {"bce": ("finished", False), "asl": ("finished", False), "fast": ("failed", True)}
    assert [(pair["first"], pair["second"]) for pair in result["pairs"]] == [("asl", "bce")]

    comparisons.behave()
    code, output = comparisons.run(**given)
    assert code == 0, output
    assert parent_of(comparisons).info.status == "FINISHED"
    study = comparisons.load("c")
    assert [key_of(one)[0] for one in study.trials] == ["bce", "fast", "asl", "fast"]


def test_folds_are_trained_each_and_compared_together(comparisons):
    code, output = comparisons.run(configs="bce,combined", seeds=1, folds=2)

    assert code == 0, output
    study = comparisons.load("c")
    assert [key_of(one) for one in study.trials] == [
        (name, 42, fold) for fold in (1, 2) for name in ("bce", "combined")
    ]
    for trial in study.trials:
        config = comparisons.config(trial)
        assert (config["folds"], config["fold"]) == (2, key_of(trial).fold)
    result = result_of(comparisons, parent_of(comparisons))
    assert result["data"]["examples"] == 160
    (pair,) = result["pairs"]
    assert (pair["first"], pair["planned"]) == ("combined", True)
