"""Searches that are stopped, killed, shared by drivers, or cut off from their storage. Trainings are stand-ins."""

import errno
import signal
import time

import psycopg
import pytest
from mlflow import MlflowClient
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tests.tuning.tuning_parts import ELSEWHERE, is_alive, states
from tuning import drivers, queue
from tuning.study.storage import JOURNAL
from tuning.study.trials import Attribute, begun, run_id


def test_those_that_are_killed_again_and_again_have_failed(searches):
    searches.behave(kills_itself=99)
    code, output = searches.run(trials=20, max_failures=2, workers=1, pruner="none")

    assert code == 1
    assert "2 of 2 failed with: its process was ended from outside (status -9)" in output
    assert len(searches.study.trials) == 6


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_driver_that_is_stopped_can_go_on(searches, how):
    searches.start(trials=1, pruner="none").communicate(timeout=180)
    searches.behave(epoch_seconds=60)
    first = searches.start(pruner="none")
    before = searches.wait_for(lambda study: len(searches.training(study)) == 2)
    pids = [pid for trial in searches.training(before) for pid, _ in searches.lives(trial)]
    first.send_signal(how)
    first.communicate(timeout=180)
    assert first.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[how]
    until = time.monotonic() + 60
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < until, "a training has outlived its driver"
        time.sleep(0.1)

    searches.behave(epoch_seconds=0)
    code, output = searches.run(pruner="none")
    assert code == 0, output
    assert states(searches.study) == [TrialState.COMPLETE] * 4
    assert sorted(len(searches.lives(trial)) for trial in begun(searches.study)) == [1, 1, 2, 2]
    runs = searches.runs()
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert sum("mlflow.parentRunId" not in run.data.tags for run in runs) == 1


@pytest.mark.parametrize("storage", ["journal", "postgresql"])
class TestTwoDrivers:
    @pytest.fixture
    def shared(self, storage, searches, request):
        if storage == "postgresql":
            searches.variables["OPTUNA_STORAGE"] = request.getfixturevalue("database")
        return searches

    def test_share_a_study(self, shared):
        shared.behave(epoch_seconds=1)
        first = shared.start(trials=6, workers=1, pruner="none", top_k=2, seeds=2, machine="elsewhere")
        shared.wait_for(shared.training)
        code, output = shared.run(trials=6, workers=1, pruner="none", top_k=2, seeds=2)
        told, _ = first.communicate(timeout=180)

        assert (first.returncode, code) == (0, 0), told + output
        assert "this one helps" in output
        assert states(shared.study) == [TrialState.COMPLETE] * 6
        for study in (shared.study, shared.load("s.finals")):
            assert len({trial.user_attrs[Attribute.DRIVER]["machine"] for trial in begun(study)}) == 2
        assert states(shared.load("s.finals")) == [TrialState.COMPLETE] * 4
        runs = shared.runs()
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert sum("mlflow.parentRunId" not in run.data.tags for run in runs) == 1  # who helps has none
        assert len({run.data.tags.get("mlflow.parentRunId") for run in runs}) == 2

    def test_one_takes_over_what_the_other_leaves(self, shared):
        shared.behave(epoch_seconds=60)
        first = shared.start(trials=2, workers=2, pruner="none", machine="elsewhere")
        study = shared.wait_for(lambda study: len(shared.training(study)) == 2)
        pids = [pid for trial in shared.training(study) for pid, _ in shared.lives(trial)]
        first.kill()
        first.communicate(timeout=180)
        shared.behave(epoch_seconds=0)
        code, output = shared.run(trials=2, pruner="none", stale=4.0)

        assert code == 0, output
        assert "still at work" in output
        assert states(shared.study) == [TrialState.COMPLETE] * 2
        assert {run.info.status for run in shared.runs()} == {"FINISHED"}
        assert not any(map(is_alive, pids))


def test_no_run_is_left_running_whatever_befell_it(searches):
    searches.run(trials=2, pruner="none")
    client = MlflowClient()
    (study_run,) = [run.info for run in searches.runs() if run.data.tags.get("command") == "tune"]
    tags = {"mlflow.parentRunId": study_run.run_id}
    made = client.create_run(study_run.experiment_id, tags=tags).info.run_id  # and then its driver was killed
    ended = run_id(searches.study.trials[0])
    client.update_run(ended, status="RUNNING")  # as when the server was away at its end
    winner = client.create_run(study_run.experiment_id, tags=tags).info.run_id  # of an earlier command, and likewise
    (searches.output / winner).mkdir()
    (searches.output / winner / "outcome.json").write_text("{}")
    code, output = searches.run(trials=2, pruner="none")

    assert code == 0, output
    assert client.get_run(made).info.status == "KILLED"
    assert client.get_run(ended).info.status == "FINISHED"
    assert client.get_run(winner).info.status == "FINISHED"


def test_what_another_driver_is_at_is_not_ended_with_the_search(searches):
    """It was given more trials."""
    searches.run(trials=2, pruner="none")
    client = MlflowClient()
    (study_run,) = [run.info for run in searches.runs() if run.data.tags.get("command") == "tune"]
    at_work = client.create_run(study_run.experiment_id, tags={"mlflow.parentRunId": study_run.run_id}).info.run_id
    searches.study.ask().set_user_attr(Attribute.DRIVER, ELSEWHERE)
    code, output = searches.run(trials=2, pruner="none")

    assert code == 0, output
    assert client.get_run(at_work).info.status == "RUNNING"


def test_one_that_waits_to_go_on_is_no_matter_to_a_search_of_fewer_trials(searches):
    searches.run(trials=2, pruner="none")
    client = MlflowClient()
    run = run_id(searches.study.trials[1])
    searches.study.enqueue_trial({}, user_attrs={Attribute.RUNS: {"42": run}, Attribute.RETRY_OF: 9})
    client.update_run(run, status="RUNNING")
    code, output = searches.run(trials=2, pruner="none")

    assert code == 0, output
    assert client.get_run(run).info.status == "FINISHED"


def test_two_drivers_that_start_at_once_agree_on_who_leads(searches):
    searches.behave(epoch_seconds=0.2)
    both = [searches.start(trials=6, workers=1, pruner="none", machine=name) for name in ("one", "two")]
    said = [" ".join(process.communicate(timeout=180)[0].split()) for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert sum("this one helps" in output for output in said) == 1, said
    assert states(searches.study) == [TrialState.COMPLETE] * 6
    assert {run.info.status for run in searches.runs()} == {"FINISHED"}


def test_a_database_that_is_away_for_a_while_is_waited_for(searches, database, postgresql):
    """As when its server is started anew."""
    searches.variables["OPTUNA_STORAGE"] = database
    searches.behave(epoch_seconds=0.5)
    first = searches.start(pruner="none")
    searches.wait_for(searches.training)
    name = database.rpartition("/")[2]
    with psycopg.connect(f"{postgresql.replace('+psycopg', '')}/postgres", autocommit=True) as server:
        server.execute(f"alter database {name} with allow_connections false")
        server.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
        time.sleep(4)
        assert first.poll() is None
        server.execute(f"alter database {name} with allow_connections true")
    said = " ".join(first.communicate(timeout=180)[0].split())

    assert first.returncode == 0, said
    assert "the storage of the study does not answer" in said
    assert states(searches.study) == [TrialState.COMPLETE] * 4
    assert {run.info.status for run in searches.runs()} == {"FINISHED"}


def test_a_full_disk_ends_it_and_nothing_is_lost(searches, monkeypatch):
    append, calls = JournalFileBackend.append_logs, []

    def append_until_full(backend, logs):
        calls.append(logs)
        if len(calls) > 12:
            with (searches.output / JOURNAL).open("ab") as file:
                file.write(b'{"op_code": 8, "tri')
            raise OSError(errno.ENOSPC, "No space left on device")
        append(backend, logs)

    gone = {**drivers.identity(), "pid": 2**22 + 1}  # so that this process is not the driver that it waits for later
    with monkeypatch.context() as patch:
        patch.setattr(drivers, "identity", lambda: gone)
        patch.setattr(queue, "identity", lambda: gone)
        searches.run(trials=1)
        whole = (searches.output / JOURNAL).read_bytes()
        patch.setattr(JournalFileBackend, "append_logs", append_until_full)
        code, output = searches.run(trials=4)
    assert code == 1
    assert "No space left" in output
    assert (searches.output / JOURNAL).read_bytes().startswith(whole)

    code, output = searches.run(trials=4, pruner="none")
    assert code == 0, output
    assert states(searches.study) == [TrialState.COMPLETE] * 4
    assert {run.info.status for run in searches.runs()} == {"FINISHED"}
