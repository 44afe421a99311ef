"""Whole searches in this process, with stand-ins for trainings."""

from optuna.trial import TrialState

from tests.tuning.fake_training import CAUSE
from tests.tuning.tuning_helpers import Searches, states
from tuning.execution.resources import assign_machine
from tuning.study.trials import Attribute, is_interrupted, run_id, started


def test_every_suggested_value_reaches_its_training(searches):
    code, output = searches.run(pruner="none", dropout=0.2)

    assert code == 0, output
    trials = searches.study.trials
    assert len(trials) == 4
    assert all(state == TrialState.COMPLETE for state in states(searches.study))
    for trial in trials:
        used = searches.config(trial)
        assert {name: used[name] for name in trial.params} == trial.params
        assert used["dropout"] == 0.2
        assert used["read_test"] is False
        assert used["best_metric"] == "macro_f1"
    assert len({trial.params["learning_rate"] for trial in trials}) == 4
    assert trials[0].params == {"learning_rate": 3e-4, "epochs": 4}  # of the preset, its 8 epochs brought to the edge
    assert trials[0].user_attrs[Attribute.WARM_START]


def test_runs_are_nested_and_none_is_left_running(searches):
    code, output = searches.run(trials=5)
    assert code == 0, output

    runs = {run.info.run_id: run for run in searches.runs()}
    (study_run,) = [run for run in runs.values() if "mlflow.parentRunId" not in run.data.tags]
    assert study_run.data.tags["command"] == "tune"
    assert study_run.info.status == "FINISHED"
    trials = [runs[run_id(trial)] for trial in searches.study.trials]
    assert len(runs) == 1 + len(trials)
    for trial, run in zip(searches.study.trials, trials, strict=True):
        assert run.data.tags["mlflow.parentRunId"] == study_run.info.run_id
        assert run.info.run_name == f"{searches.study.study_name} trial {trial.number}"
        expected = {TrialState.COMPLETE: ("FINISHED", "complete"), TrialState.PRUNED: ("FINISHED", "pruned")}[
            trial.state
        ]
        assert (run.info.status, run.data.tags["tuning.state"]) == expected
        assert "error" not in run.data.tags


def test_bad_trials_are_stopped_early(searches):
    code, output = searches.run(trials=8, pruner="median", workers=1)

    assert code == 0, output
    pruned = [trial for trial in searches.study.trials if trial.state == TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        assert max(trial.intermediate_values) < 6
        assert "pruned" in output
        assert not (searches.output / run_id(trial) / "outcome.json").exists()
    best = searches.study.best_trial
    assert best.value > max(trial.value for trial in pruned)


def test_each_worker_has_its_own_cores(searches):
    searches.behave(epoch_seconds=0.1)
    searches.run(trials=2, pruner="none")

    used = {(searches.output / run_id(trial) / "resources").read_text() for trial in searches.study.trials}
    assert used == {f"{list(one.cores)} {one.gpus}\n" for one in assign_machine("2", "auto", [])}


def test_a_failure_is_no_score(searches):
    searches.behave(fails_above=5e-4)
    code, output = searches.run(trials=6, max_failures=6, pruner="none")

    assert code == 0, output
    failed = [trial for trial in searches.study.trials if trial.state == TrialState.FAIL]
    assert failed
    for trial in failed:
        assert trial.value is None
        assert trial.user_attrs[Attribute.CAUSE] == CAUSE
    by_id = {run.info.run_id: run for run in searches.runs()}
    assert {by_id[run_id(trial)].info.status for trial in failed} == {"FAILED"}
    assert len(states(searches.study)) == 6


def test_a_score_that_is_missing_is_a_failure(searches):
    searches.behave(is_silent=True)
    code, output = searches.run(pruner="none")

    assert code == 1
    assert "it has no number for dev/macro_f1" in output
    assert "trials failed in a row" in output, output


def test_it_stops_when_everything_fails(searches):
    searches.behave(fails_above=0)
    code, output = searches.run(trials=20, max_failures=2)

    assert code == 1
    assert f"failed with: {CAUSE}" in output
    assert len(searches.study.trials) < 8
    assert {run.info.status for run in searches.runs()} <= {"FAILED", "KILLED"}


def test_a_setting_that_does_not_arrive_is_a_defect_and_says_so(searches):
    searches.behave(forgets="learning_rate")
    code, output = searches.run()

    assert code == 1
    assert "did not use its settings (learning_rate" in output


def test_a_training_that_takes_too_long_has_failed(searches):
    searches.behave(epoch_seconds=0.1)
    code, output = searches.run(trials=1, trial_minutes=0.001)

    assert code == 1
    assert "it took longer than trial_minutes=0.001" in output


def test_a_training_that_is_killed_continues_from_its_checkpoint(searches):
    searches.behave(kills=1)
    code, output = searches.run(pruner="none")

    assert code == 0, output
    study = searches.study
    assert states(study) == [TrialState.COMPLETE] * 4
    assert sum(is_interrupted(trial) for trial in study.trials) == 4
    for trial in started(study):
        assert len(searches.lives(trial)) == 2  # in the same run
        assert study.trials[trial.system_attrs["failed_trial"]].params == trial.params
    assert {run.info.status for run in searches.runs()} == {"FINISHED"}


def test_a_training_that_is_killed_each_time_has_failed(searches):
    searches.behave(kills=99)
    code, output = searches.run(trials=20, max_failures=2, workers=1, pruner="none")

    assert code == 1
    assert "2 of 2 failed with: its process was killed from outside (exit status -9)" in output
    assert len(searches.study.trials) == 6


def test_the_number_of_trials_is_that_of_all_commands(searches):
    searches.run(trials=2, pruner="none")
    searches.run(trials=5, pruner="none")
    code, _ = searches.run(trials=5, pruner="none")

    assert code == 0
    assert len(searches.study.trials) == 5
    assert len({trial.params["learning_rate"] for trial in searches.study.trials}) == 5  # none was suggested twice


def test_with_one_worker_it_is_repeatable(tmp_path, root, searches):
    searches.run(trials=4, workers=1)
    (tmp_path / "other").mkdir()
    other = Searches(tmp_path / "other", root)
    other.run(trials=4, workers=1)

    assert [trial.params for trial in searches.study.trials] == [trial.params for trial in other.study.trials]
    assert [trial.state for trial in searches.study.trials] == [trial.state for trial in other.study.trials]
