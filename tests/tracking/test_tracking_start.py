"""Which run a start takes up, and what happens when the server cannot be reached."""

import os
import socket
import subprocess
import sys
import threading

import pytest
from tracking_parts import free_port, history

from trainer.core import artifacts
from trainer.core.errors import TrackingError
from trainer.tracking import connection
from trainer.tracking import run as tracking
from trainer.tracking.event_log import EventLog
from trainer.tracking.run import open_run

# ruff: noqa: PT012 - what raises here is a whole run, several lines long


def test_under_mlflow_run_the_project_run_is_used(database, tmp_path, monkeypatch):
    made = database.create_run(database.create_experiment("elsewhere"))
    database.log_param(made.info.run_id, "seed", "'1'")
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)

    with open_run(tmp_path, parameters={"seed": 1}) as run:
        assert "MLFLOW_RUN_ID" not in os.environ

    stored = database.get_run(made.info.run_id)
    assert run.run_id == made.info.run_id
    assert stored.info.status == "FINISHED"
    assert stored.data.params == {"seed": "'1'", "cfg.seed": "1"}
    assert database.get_experiment_by_name("emotions") is None


def test_the_experiment_is_the_given_one_else_that_of_the_environment(database, tmp_path, monkeypatch):
    def experiment(name=None):
        with open_run(tmp_path, experiment=name) as run:
            return database.get_experiment(database.get_run(run.run_id).info.experiment_id).name

    assert experiment("study") == "study"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", database.create_experiment("by id"))
    assert experiment() == "by id"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "by name")
    assert experiment() == "by name"
    database.delete_experiment(database.get_experiment_by_name("by name").experiment_id)
    with pytest.raises(TrackingError, match="experiment must be active, but got name='by name'"):
        experiment()


def test_resume_continues_the_same_run_and_mends_its_status(database, tmp_path):
    with pytest.raises(RuntimeError), open_run(tmp_path, parameters={"epochs": 2, "seed": 1}) as first:
        first.log_metrics({"train/loss": 2.0}, 0)
        raise RuntimeError("power")
    with open_run(tmp_path, resume=first.run_id, parameters={"epochs": 4, "seed": 1}) as second:
        assert database.get_run(first.run_id).info.status == "RUNNING"
        second.log_metrics({"train/loss": 1.0}, 1)

    stored = database.get_run(first.run_id)
    assert second.run_id == first.run_id
    assert stored.info.status == "FINISHED"
    assert artifacts.TAG_ERROR not in stored.data.tags
    assert stored.data.params == {"cfg.epochs": "2", "cfg.seed": "1"}
    assert stored.data.tags["cfg.epochs"] == "4"
    assert "cfg.seed" not in stored.data.tags
    assert [step for step, _, _ in history(database, first.run_id, "train/loss")] == [0, 1]
    system_steps = [step for step, _, _ in history(database, first.run_id, "system/cpu_utilization_percentage")]
    assert system_steps == sorted(set(system_steps))
    assert len(system_steps) >= 2


def test_resume_under_mlflow_run_points_from_the_new_run_to_the_old(database, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path) as first:
        raise KeyboardInterrupt
    made = database.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    with open_run(tmp_path, resume=first.run_id) as second:
        pass

    project_run = database.get_run(made.info.run_id)
    assert second.run_id == first.run_id
    assert project_run.data.tags[artifacts.TAG_RESUMES] == first.run_id
    assert project_run.info.status == "FINISHED"
    assert database.get_run(first.run_id).info.status == "FINISHED"


def test_resume_delivers_what_the_killed_process_left_first(database, tmp_path):
    with open_run(tmp_path) as first:
        pass
    with EventLog(first.folder) as spool:
        spool.append(first.run_id, "metrics", {"metrics": {"train/loss": 3.0}, "step": 5})
    with open_run(tmp_path, resume=first.run_id) as second:
        assert [step for step, _, _ in history(database, first.run_id, "train/loss")] == [5]
        second.log_metrics({"train/loss": 2.0}, 6)

    assert [step for step, _, _ in history(database, first.run_id, "train/loss")] == [5, 6]


def test_resume_of_an_unknown_or_deleted_run_is_an_error(database, tmp_path):
    with open_run(tmp_path) as run:
        pass
    database.delete_run(run.run_id)

    with (
        pytest.raises(TrackingError, match="must name a run that is not deleted"),
        open_run(tmp_path, resume=run.run_id),
    ):
        pass
    for unknown in ("0" * 32, "not a run"):
        with pytest.raises(TrackingError, match="must name an existing run"), open_run(tmp_path, resume=unknown):
            pass
    assert [folder.name for folder in tmp_path.iterdir() if folder.name in ("0" * 32, "not a run")] == []


def test_a_server_that_refuses_connections_at_the_start_is_an_error_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:hunter2@127.0.0.1:{free_port()}")

    with pytest.raises(TrackingError, match=r"tracking server must answer, but got uri='http://127") as raised:
        open_run(tmp_path).__enter__()
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__
    assert "MLFLOW_TRACKING_URI" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_silent_at_the_start_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "_START_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(TrackingError, match=r"no answer within 0.2 seconds"):
            open_run(tmp_path).__enter__()
    for thread in threading.enumerate():
        if thread.name == "tracking-probe":
            thread.join()


def test_importing_costs_no_slow_library():
    code = "import sys, trainer.tracking.run; print({'mlflow', 'numpy', 'torch', 'psutil'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_sync_of_a_folder_without_a_run_is_an_error(tmp_path, capsys):
    assert tracking.main(["sync", str(tmp_path / "typo")]) == 1
    assert "which has no spool" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
