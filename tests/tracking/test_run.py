"""Which run is opened, and how it ends."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from mlflow.exceptions import RestException
from tracking_helpers import away, history, logged_history

from trainer.core import artifacts
from trainer.core.environment import child_environment
from trainer.core.errors import SettingsError, TrackingError
from trainer.sync import main as sync_main
from trainer.tracking import run as tracking
from trainer.tracking import tracker, uploader
from trainer.tracking.event_log import EventLog
from trainer.tracking.run import RejectedEventsError, open_run, sync

# ruff: noqa: PT012 - a block that raises here is a run of several lines


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
    with pytest.raises(TrackingError, match="by name is deleted"):
        experiment()


def test_resume_continues_the_same_run_and_corrects_its_status(database, tmp_path):
    with pytest.raises(RuntimeError), open_run(tmp_path, parameters={"epochs": 2, "seed": 1}) as first:
        first.log_metrics({"train/loss": 2.0, "train/samples_per_second": 7.5}, 0)
        raise RuntimeError("power")
    with open_run(tmp_path, resume=first.run_id, parameters={"epochs": 4, "seed": 1}) as second:
        assert database.get_run(first.run_id).info.status == "RUNNING"
        # A step between the checkpoint and the end of the first process, which now takes another time.
        second.log_metrics({"train/loss": 2.0, "train/samples_per_second": 8.5}, 0)
        second.log_metrics({"train/loss": 1.0}, 1)

    stored = database.get_run(first.run_id)
    assert second.run_id == first.run_id
    assert stored.info.status == "FINISHED"
    assert artifacts.TAG_ERROR not in stored.data.tags
    assert stored.data.params == {"cfg.epochs": "2", "cfg.seed": "1"}
    assert stored.data.tags["cfg.epochs"] == "4"
    assert "cfg.seed" not in stored.data.tags
    assert [step for step, _, _ in history(database, first.run_id, "train/loss")] == [0, 1]
    assert [value for _, value, _ in history(database, first.run_id, "train/samples_per_second")] == [7.5]
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
    assert first.run_id in project_run.data.tags[artifacts.TAG_NOTE]
    assert project_run.info.run_name == f"resume {database.get_run(first.run_id).info.run_name}"
    assert project_run.info.status == "FINISHED"
    assert database.get_run(first.run_id).info.status == "FINISHED"


def test_resume_delivers_what_the_killed_process_left_first(database, tmp_path):
    with open_run(tmp_path) as first:
        pass
    with EventLog(first.folder) as log:
        log.append(first.run_id, "metrics", {"metrics": {"train/loss": 3.0}, "step": 5})
    with open_run(tmp_path, resume=first.run_id) as second:
        assert [step for step, _, _ in history(database, first.run_id, "train/loss")] == [5]
        second.log_metrics({"train/loss": 2.0}, 6)

    assert [step for step, _, _ in history(database, first.run_id, "train/loss")] == [5, 6]


def test_resume_of_an_unknown_or_deleted_run_is_an_error(database, tmp_path):
    with open_run(tmp_path) as run:
        pass
    database.delete_run(run.run_id)

    with (
        pytest.raises(TrackingError, match=run.run_id),
        open_run(tmp_path, resume=run.run_id),
    ):
        pass
    for unknown in ("0" * 32, "not a run"):
        with pytest.raises(TrackingError, match=unknown), open_run(tmp_path, resume=unknown):
            pass
    assert [folder.name for folder in tmp_path.iterdir() if folder.name in ("0" * 32, "not a run")] == []


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (RuntimeError("no room on device"), "FAILED"),
        (SystemExit(2), "FAILED"),
        (SystemExit("bad"), "FAILED"),
        (SystemExit(143), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(0), "FINISHED"),
        (SystemExit(None), "FINISHED"),
    ],
)
def test_the_status_is_that_of_the_block(database, tmp_path, failure, status):
    with pytest.raises(type(failure)) as raised, open_run(tmp_path) as run:
        raise failure

    assert raised.value is failure
    stored = database.get_run(run.run_id)
    assert stored.info.status == status
    assert (artifacts.TAG_ERROR in stored.data.tags) == (status != "FINISHED")
    if isinstance(failure, RuntimeError):
        assert stored.data.tags[artifacts.TAG_ERROR] == "RuntimeError: no room on device"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_stop_signal_kills_the_run_and_becomes_the_exit_status(database, tmp_path, number):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as raised, open_run(tmp_path) as run:
        os.kill(os.getpid(), number)
        time.sleep(5)

    assert raised.value.code == 128 + number
    stored = database.get_run(run.run_id)
    assert stored.info.status == "KILLED"
    assert stored.data.tags[artifacts.TAG_ERROR] == f"stopped by {signal.Signals(number).name}"
    assert signal.getsignal(number) is before


def test_a_closed_terminal_does_not_stop_a_run_under_nohup(database, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with open_run(tmp_path) as run:
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert database.get_run(run.run_id).info.status == "FINISHED"


def test_a_second_signal_while_closing_does_not_cost_the_run_its_status(database, tmp_path, monkeypatch):
    real = tracking.SystemMetrics.stop

    def stop_and_be_told_again(self):
        real(self)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(tracking.SystemMetrics, "stop", stop_and_be_told_again)
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path) as run:
        raise KeyboardInterrupt
    assert database.get_run(run.run_id).info.status == "KILLED"


def test_a_full_disk_fails_the_run_with_a_clear_error(database, tmp_path, monkeypatch):
    with pytest.raises(TrackingError, match="No space left"), open_run(tmp_path) as run:
        run.log_metrics({"train/loss": 1.0}, 0)
        run.flush(30)
        monkeypatch.setattr("trainer.tracking.event_log.os.write", no_space)
        run.log_metrics({"train/loss": 2.0}, 1)

    stored = database.get_run(run.run_id)
    assert stored.info.status == "FAILED"
    assert "No space left" in stored.data.tags[artifacts.TAG_ERROR]
    assert len(history(database, run.run_id, "train/loss")) == 1


def no_space(descriptor, data):
    raise OSError(28, "No space left on device")


def test_an_artifact_that_was_removed_is_rejected_and_blocks_nothing(database, tmp_path, caplog):
    with open_run(tmp_path, parameters={"seed": 1}) as run:
        run.flush(30)
        (run.folder / "gone.txt").write_text("x")
        with away(run):
            run.log_artifact("gone.txt")
            (run.folder / "gone.txt").unlink()
            run.log_metrics({"train/loss": 1.0}, 0)

    assert "gone.txt was removed" in caplog.text
    assert "gone.txt" in (run.folder / "events.rejected.jsonl").read_text()
    assert len(history(database, run.run_id, "train/loss")) == 1
    assert database.get_run(run.run_id).info.status == "FINISHED"


def test_a_server_that_stays_away_costs_a_warning_and_no_error(database, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tracker, "_LIMITS", (0.3, 0.3))
    with contextlib.ExitStack() as outage, open_run(tmp_path, parameters={"seed": 1}) as run:
        run.flush(30)
        outage.enter_context(away(run))
        run.log_metrics({"train/loss": 1.0}, 0)
        assert not run.flush(0.1)

    assert database.get_run(run.run_id).info.status == "RUNNING"
    assert f"output={run.folder}" in caplog.text
    assert "Training continues" in caplog.text
    assert "hunter2" not in caplog.text
    assert len([record for record in caplog.records if "Cannot send events" in record.message]) == 1
    assert sync(run.folder) > 0
    assert database.get_run(run.run_id).info.status == "FINISHED"
    assert len(history(database, run.run_id, "train/loss")) == 1


def test_a_request_that_hangs_does_not_hold_the_end_of_the_run(database, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tracker, "_LIMITS", (0.2, 0.2))
    monkeypatch.setattr(uploader, "_JOIN_SECONDS", 0.1)
    answer = threading.Event()
    with open_run(tmp_path) as run:
        run.flush(30)
        plain = run._backend.send
        monkeypatch.setattr(run._backend, "send", lambda folder, batch: (answer.wait(), plain(folder, batch)))
        run.log_metrics({"train/loss": 1.0}, 0)

    assert f"output={run.folder}" in caplog.text
    assert database.get_run(run.run_id).info.status == "RUNNING"
    answer.set()
    run._uploader._thread.join()
    run._log.close()
    assert sync(run.folder) > 0
    assert database.get_run(run.run_id).info.status == "FINISHED"
    assert len(history(database, run.run_id, "train/loss")) == 1


def test_delivering_everything_again_changes_nothing(database, tmp_path, saved_model, monkeypatch):
    with open_run(tmp_path / "runs", parameters={"seed": 1}) as run:
        run.log_metrics({"test/macro_f1": 0.53, "train/loss": float("nan")}, 7)
        run.log_dataset("starter", "ab" * 32, "train", "trainer/data/starter", {"rows": 900})
        shutil.copytree(saved_model, run.folder / "model")
        run.log_model(run.folder / "model", 7)
        assert run.register("twice") == 1
        run.log_artifacts()
    before = database.get_run(run.run_id).to_dictionary()
    moved = tmp_path / "moved"
    shutil.move(run.folder, moved)
    (moved / "events.offset").unlink()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path / "runs")

    assert sync(moved) == len((moved / "events.jsonl").read_text().splitlines())

    assert not (moved / "events.rejected.jsonl").exists()
    assert len(history(database, run.run_id, "test/macro_f1")) == 1
    assert len(history(database, run.run_id, "train/loss")) == 1
    assert len(database.search_model_versions("name = 'twice'")) == 1
    assert repr(database.get_run(run.run_id).to_dictionary()) == repr(before)
    assert list((tmp_path / "runs").iterdir()) == []


def test_sync_of_a_folder_without_a_run_is_an_error(tmp_path, capsys):
    assert sync_main([f"--output={tmp_path}/typo"]) == 1
    assert "typo" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_named_unless_its_user_named_it(database, tmp_path, monkeypatch):
    def name_of(project_run=None, **settings):
        if project_run:
            monkeypatch.setenv("MLFLOW_RUN_ID", project_run.info.run_id)
        with open_run(tmp_path, **settings) as run:
            pass
        return database.get_run(run.run_id).info.run_name

    assert name_of(name="starter-bce-1") == "starter-bce-1"
    assert name_of(database.create_run("0"), name="mine") == "mine"  # MLflow had generated a name
    assert name_of(database.create_run("0", run_name="trial 0"), name="mine") == "trial 0"


def test_an_experiment_is_described_and_keeps_what_its_user_wrote(database, tmp_path, monkeypatch):
    kind = "mlflow.experimentKind"
    with open_run(tmp_path):
        own = database.get_experiment_by_name(artifacts.DEFAULT_EXPERIMENT)
    assert own.tags[kind] == "custom_model_development"
    assert f"(#/experiments/{own.experiment_id}/runs?viewStateShareKey=scores)" in own.tags[artifacts.TAG_NOTE]
    view = json.loads(own.tags["mlflow.sharedViewState.scores"])
    assert view["name"] == "Scores"
    assert {"metrics.`test/macro_f1`", "params.`cfg.loss`"} <= set(json.loads(view["state"])["selectedColumns"])

    monkeypatch.setenv("MLFLOW_RUN_ID", database.create_run("0").info.run_id)
    with open_run(tmp_path):
        default = database.get_experiment("0").tags
    assert default[kind] == "custom_model_development"
    assert artifacts.TAG_NOTE not in default

    other = database.create_experiment("mixed", tags={kind: "genai_development"})
    monkeypatch.setenv("MLFLOW_RUN_ID", database.create_run(other).info.run_id)
    with open_run(tmp_path):
        assert database.get_experiment(other).tags[kind] == "genai_development"


def test_a_user_without_the_permission_to_register_still_gets_the_final_status(database, tmp_path, monkeypatch, caplog):
    refused = RestException({"error_code": "PERMISSION_DENIED", "message": "no"})
    with open_run(tmp_path) as run, monkeypatch.context() as patch:
        patch.setattr(run._backend, "register", lambda *_: (_ for _ in ()).throw(refused))
        assert run.register("emotions") is None
        run.log_metrics({"train/loss": 1.0}, 0)

    assert database.get_run(run.run_id).info.status == "FINISHED"
    assert history(database, run.run_id, "train/loss")
    assert "events.rejected.jsonl" in caplog.text


def test_with_rights_that_were_taken_away_training_ends_and_sync_delivers_everything_later(
    database, tmp_path, monkeypatch, caplog
):
    refused = RestException({"error_code": "UNAUTHENTICATED", "message": "token expired"})
    opened = open_run(tmp_path, parameters={"seed": 1})
    run = opened.__enter__()
    run.flush(30)
    with monkeypatch.context() as outage:
        outage.setattr(run._backend, "send", lambda *_: (_ for _ in ()).throw(refused))
        run.log_metrics({"train/loss": 1.0}, 0)
        with pytest.raises(RejectedEventsError, match=rf"MLFLOW_TRACKING_PASSWORD.*output={run.folder}"):
            opened.__exit__(None, None, None)

    assert database.get_run(run.run_id).info.status == "RUNNING"
    assert len(caplog.records) == 1
    assert sync(run.folder) > 0
    assert database.get_run(run.run_id).info.status == "FINISHED"
    assert len(history(database, run.run_id, "train/loss")) == 1
    assert sync(run.folder) == 0


def test_a_run_ends_although_the_server_fails_at_one_event_each_time(database, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tracker, "_LIMITS", (0.2, 0.2))
    failure = RestException({"error_code": "INTERNAL_ERROR", "message": "no"})
    with contextlib.ExitStack() as defect, open_run(tmp_path) as run:
        run.flush(30)
        patch = defect.enter_context(monkeypatch.context())
        patch.setattr(run._backend, "send", lambda *_: (_ for _ in ()).throw(failure))
        run.log_metrics({"train/loss": 1.0}, 0)

    assert database.get_run(run.run_id).info.status == "FINISHED"
    assert f"output={run.folder}" in caplog.text
    assert sync(run.folder) > 0
    assert len(history(database, run.run_id, "train/loss")) == 1


def test_a_run_ends_although_its_event_log_cannot_be_read(database, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(tracker, "_LIMITS", (0.2, 0.2))
    with contextlib.ExitStack() as broken, open_run(tmp_path) as run:
        run.flush(30)
        patch = broken.enter_context(monkeypatch.context())
        patch.setattr("trainer.tracking.event_log.os.pread", fail)
        run.log_metrics({"train/loss": 1.0}, 0)
        assert not run.flush(0.1)
    assert database.get_run(run.run_id).info.status == "FINISHED"


def test_sync_delivers_a_folder_of_an_older_version(database, tmp_path):
    run_id = database.create_run("0").info.run_id
    folder = tmp_path / run_id
    folder.mkdir()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    lines = [("open", {"uri": uri}), ("tags", {"tags": {"preset": "starter"}}), ("register", {"name": "emotions"})]
    rows = [{"id": i, "time": 1, "run_id": run_id, "kind": kind, "content": it} for i, (kind, it) in enumerate(lines)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "spool.jsonl").write_text(text)
    (folder / "spool.offset").write_text(f"{len(text):020d}\n")
    (folder / "spool.refused.jsonl").write_text(json.dumps({"id": 1, "run_id": run_id, "reason": "no"}) + "\n")

    with pytest.raises(tracking.RejectedEventsError, match="no model to register"):
        sync(folder)
    assert database.get_run(run_id).data.tags["preset"] == "starter"
    assert database.get_run(run_id).info.status == "KILLED"
    assert sorted(path.name for path in folder.iterdir()) == ["events.jsonl", "events.offset", "events.rejected.jsonl"]


def test_an_artifact_store_that_this_machine_cannot_write_is_an_error_before_training(database, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    database.create_experiment("elsewhere", artifact_location=(tmp_path / "file" / "artifacts").as_uri())

    with pytest.raises(TrackingError, match=r"artifacts .*NotADirectoryError.*--serve-artifacts"):
        open_run(tmp_path / "runs", experiment="elsewhere").__enter__()
    (run,) = database.search_runs([database.get_experiment_by_name("elsewhere").experiment_id])
    assert run.info.status == "FAILED"


def test_a_store_whose_library_is_missing_is_an_error_before_training(database, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    database.create_experiment("on s3", artifact_location="s3://bucket/mlflow")

    with pytest.raises(TrackingError, match=r"s3://bucket/mlflow.*pip install boto3"):
        open_run(tmp_path / "runs", experiment="on s3").__enter__()


_WRITER = """
import pathlib, sys
from trainer.tracking.run import open_run
with open_run(pathlib.Path(sys.argv[1])) as run:
    run.flush(60)
    for step in range(1_000_000):
        run.log_metrics({"train/loss": 1 / (step + 1)}, step)
        if step % 100 == 0:
            run.flush(60)
        if step == 300:
            print(run.run_id, flush=True)
"""


def test_after_kill_9_sync_delivers_every_metric_once_and_the_run_is_killed(database, tmp_path, capsys):
    command = [sys.executable, "-c", _WRITER, tmp_path / "runs"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=child_environment()) as writer:
        run_id = writer.stdout.readline().strip()
        assert sync_main([f"--output={tmp_path}/runs"]) == 0
        assert "in progress" in capsys.readouterr().out
        writer.kill()

    (partial := tmp_path / "runs" / run_id / ".promotion.json.partial").touch()
    assert database.get_run(run_id).info.status == "RUNNING"
    assert sync_main([f"--output={tmp_path}/runs"]) == 0
    assert not partial.exists()
    stored = database.get_run(run_id)
    expected = logged_history(tmp_path / "runs" / run_id, "train/loss")
    assert len(expected) > 300
    assert history(database, run_id, "train/loss") == expected
    assert stored.info.status == "KILLED"
    assert "killed" in stored.data.tags[artifacts.TAG_ERROR]
    assert sync_main([f"--output={tmp_path}/runs"]) == 0


def test_an_error_before_the_run_is_opened_is_a_tag_of_the_project_run(database, monkeypatch):
    run_id = database.create_run("0").info.run_id
    tracking.report_failure(SettingsError("no project run"))
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    tracking.report_failure(SettingsError("`epochs` must be at least 1, got 0."))

    run = database.get_run(run_id)
    assert run.data.tags[artifacts.TAG_ERROR].startswith("`epochs`")
    assert "`epochs`" in run.data.tags[artifacts.TAG_NOTE]
    assert run.info.run_name == "command failed"  # `mlflow run` tells its entry point
    assert database.get_run(run_id).info.status == "RUNNING"  # `mlflow run` makes it FAILED
    tracking.report_failure(SystemExit(128 + signal.SIGTERM))
    assert database.get_run(run_id).info.status == "KILLED"


@pytest.mark.parametrize("stage", ["find_or_create_run", "EventLog", "check_artifact_store", "SystemMetrics"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_run_is_opened_leaves_it_killed(database, tmp_path, monkeypatch, stage, number):
    real = getattr(tracking, stage)

    def signalled(*given, **more):
        done = real(*given, **more)
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        return done

    monkeypatch.setattr(tracking, stage, signalled)
    with pytest.raises((SystemExit, KeyboardInterrupt)), open_run(tmp_path):
        pytest.fail("the run was opened")
    experiment = database.get_experiment_by_name("emotions")
    (run,) = database.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"


def test_a_run_that_was_killed_before_its_first_event_is_ended_by_sync(database, tmp_path, monkeypatch):
    made = database.create_run(database.create_experiment("emotions")).info.run_id
    EventLog(tmp_path / made).close()
    assert sync_main(["--output", str(tmp_path)]) == 0
    assert database.get_run(made).info.status == "KILLED"


def test_the_first_files_are_written_before_the_run_is_started(database, tmp_path, monkeypatch):
    def prepare(folder):
        assert folder.is_dir()
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"), open_run(tmp_path, prepare):
        pytest.fail("the run was opened")
    experiment = database.get_experiment_by_name("emotions")
    (run,) = database.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert "No space" in run.data.tags[artifacts.TAG_ERROR]


def test_a_run_in_use_keeps_its_status_when_it_cannot_be_resumed(database, tmp_path):
    with open_run(tmp_path) as run:
        script = (
            "import sys; from pathlib import Path; from trainer.tracking.run import open_run\n"
            "with open_run(Path(sys.argv[1]), resume=sys.argv[2]): pass"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path), run.run_id],
            env=child_environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "Another process writes" in done.stderr
        assert database.get_run(run.run_id).info.status == "RUNNING"
