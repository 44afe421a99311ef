"""Searches that are stopped, killed or shared, as processes; the trainings are processes too, but stand-ins."""

import signal
import time

import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from tests.tuning.tuning_helpers import is_alive, states
from tuning.study.trials import Attribute, run_id, started


def wait_for_end(pids):
    until = time.monotonic() + 60
    while any(map(is_alive, pids)):
        assert time.monotonic() < until, "a training has outlived its search"
        time.sleep(0.1)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_same_command_continues_after_a_stop(searches, how):
    searches.run(trials=1, pruner="none")
    searches.behave(epoch_seconds=60)
    first = searches.start(pruner="none")
    before = searches.wait_for(lambda study: len(searches.training(study)) == 2)
    pids = [pid for trial in searches.training(before) for pid in searches.lives(trial)]
    first.send_signal(how)
    output, _ = first.communicate(timeout=180)
    assert first.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[how], output
    wait_for_end(pids)

    searches.behave()
    if how == signal.SIGKILL:
        second = searches.start(pruner="none", grace=2)  # or it would wait a minute for the heartbeats to be stale
        output, _ = second.communicate(timeout=180)
        code = second.returncode
    else:  # the stopped command has queued its trials again
        code, output = searches.run(pruner="none")
    assert code == 0, output
    assert states(searches.study) == [TrialState.COMPLETE] * 4
    assert sorted(len(searches.lives(trial)) for trial in started(searches.study)) == [1, 1, 2, 2]
    runs = searches.runs()
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert sum("mlflow.parentRunId" not in run.data.tags for run in runs) == 1


def test_a_worker_shares_search_and_finals_on_a_database(searches, database):
    searches.variables["OPTUNA_STORAGE"] = database
    searches.behave(epoch_seconds=0.5)
    given = {"trials": 6, "workers": 1, "pruner": "none", "top_k": 2, "seeds": 2}
    first = searches.start(**given)
    searches.wait_for(searches.training)
    code, output = searches.run(**given)
    assert (code, "worker=true" in output) == (1, True)  # only one command leads
    second = searches.start(**given, worker="true")
    said = [process.communicate(timeout=180)[0] for process in (first, second)]

    assert (first.returncode, second.returncode) == (0, 0), said
    assert states(searches.study) == [TrialState.COMPLETE] * 6
    assert states(searches.load("s.finals")) == [TrialState.COMPLETE] * 4
    assert all(f"{phase} " in said[1] for phase in ("trial", "final"))
    runs = searches.runs()
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert sum("mlflow.parentRunId" not in run.data.tags for run in runs) == 1  # a worker has none
    assert len({run.data.tags.get("mlflow.parentRunId") for run in runs}) == 2


def test_a_failing_training_is_a_failed_trial_with_the_error_it_printed(searches):
    from tests.tuning.fake_training import CAUSE

    searches.behave(fails_above=0)
    first = searches.start(trials=2, max_failures=2)
    output, _ = first.communicate(timeout=180)

    assert first.returncode == 1, output
    assert CAUSE in output
    assert {run.info.status for run in searches.runs()} == {"FAILED"}


class TestWorker:
    def test_without_a_study_is_refused(self, searches):
        code, output = searches.run(worker="true")
        assert code == 1
        assert "`study` must exist for worker=true, got s" in output

    def test_without_more_to_do_ends(self, searches):
        searches.run(trials=2)
        code, output = searches.run(trials=2, worker="true")
        assert code == 0, output
        assert len(searches.runs()) == 3


class TestRunsLeftRunning:
    def test_are_ended_with_the_search(self, searches):
        searches.run(trials=2, pruner="none")
        client = MlflowClient()
        (study_run,) = [run.info for run in searches.runs() if run.data.tags.get("command") == "tune"]
        tags = {"mlflow.parentRunId": study_run.run_id}
        created = client.create_run(study_run.experiment_id, tags=tags).info.run_id  # and then its command was killed
        ended = run_id(searches.study.trials[0])
        client.update_run(ended, status="RUNNING")  # as when the server was away at its end
        winner = client.create_run(study_run.experiment_id, tags=tags).info.run_id  # of an earlier command
        (searches.output / winner).mkdir()
        (searches.output / winner / "outcome.json").write_text("{}")
        code, output = searches.run(trials=2, pruner="none")

        assert code == 0, output
        assert client.get_run(created).info.status == "KILLED"
        assert client.get_run(ended).info.status == "FINISHED"
        assert client.get_run(winner).info.status == "FINISHED"

    @pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed")
    def test_are_left_to_a_worker_with_more_trials(self, searches):
        searches.run(trials=2, pruner="none")
        client = MlflowClient()
        (study_run,) = [run.info for run in searches.runs() if run.data.tags.get("command") == "tune"]
        training = client.create_run(study_run.experiment_id, tags={"mlflow.parentRunId": study_run.run_id}).info.run_id
        searches.study.ask().set_user_attr(Attribute.SETTINGS, {})
        code, output = searches.run(trials=2, pruner="none")

        assert code == 0, output
        assert client.get_run(training).info.status == "RUNNING"
