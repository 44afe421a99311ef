"""How a run ends, and what a store that fails costs it."""

import contextlib
import os
import shutil
import signal
import threading
import time

import pytest
from tracking_parts import away, history

from trainer.core import artifacts
from trainer.core.errors import TrackingError
from trainer.tracking import run as tracking
from trainer.tracking import tracker, uploader
from trainer.tracking.run import open_run, sync

# ruff: noqa: PT012 - what raises here is a whole run, several lines long


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
def test_the_status_tells_how_the_block_ended(database, tmp_path, failure, status):
    with pytest.raises(type(failure)) as raised, open_run(tmp_path) as run:
        raise failure

    assert raised.value is failure
    stored = database.get_run(run.run_id)
    assert stored.info.status == status
    assert (artifacts.TAG_ERROR in stored.data.tags) == (status != "FINISHED")
    if isinstance(failure, RuntimeError):
        assert stored.data.tags[artifacts.TAG_ERROR] == "RuntimeError: no room on device"


def test_sigterm_kills_the_run_and_keeps_the_exit_code(database, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as raised, open_run(tmp_path) as run:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    assert raised.value.code == 143
    assert database.get_run(run.run_id).info.status == "KILLED"
    assert signal.getsignal(signal.SIGTERM) is before


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
    with pytest.raises(TrackingError, match=r"run folder must be writable.*No space left"), open_run(tmp_path) as run:
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


def test_an_operation_the_server_never_takes_is_put_aside_and_holds_nothing_up(database, tmp_path, caplog):
    with open_run(tmp_path, parameters={"seed": 1}) as run:
        run.flush(30)
        (run.folder / "gone.txt").write_text("x")
        with away(run):
            run.log_artifact("gone.txt")
            (run.folder / "gone.txt").unlink()
            run.log_metrics({"train/loss": 1.0}, 0)

    assert "gone.txt was removed" in caplog.text
    assert "gone.txt" in (run.folder / "spool.refused.jsonl").read_text()
    assert len(history(database, run.run_id, "train/loss")) == 1
    assert database.get_run(run.run_id).info.status == "FINISHED"


def test_a_server_that_stays_away_costs_a_warning_and_no_error(database, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tracker, "_FLUSH_SECONDS", 0.3)
    with contextlib.ExitStack() as outage, open_run(tmp_path, parameters={"seed": 1}) as run:
        run.flush(30)
        outage.enter_context(away(run))
        run.log_metrics({"train/loss": 1.0}, 0)
        assert run.register("emotions") is None

    assert database.get_run(run.run_id).info.status == "RUNNING"
    assert f"python -m trainer.tracking.run sync {run.folder}" in caplog.text
    assert "training goes on" in caplog.text
    assert "hunter2" not in caplog.text
    assert len([record for record in caplog.records if "cannot deliver" in record.message]) == 1


def test_a_request_that_hangs_does_not_hold_the_end_of_the_run(database, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tracker, "_FLUSH_SECONDS", 0.2)
    monkeypatch.setattr(uploader, "_JOIN_SECONDS", 0.1)
    answer = threading.Event()
    with open_run(tmp_path) as run:
        run.flush(30)
        plain = run._store.apply
        monkeypatch.setattr(run._store, "apply", lambda folder, batch: (answer.wait(), plain(folder, batch)))
        run.log_metrics({"train/loss": 1.0}, 0)

    assert "tracking sync" in caplog.text
    assert database.get_run(run.run_id).info.status == "RUNNING"
    answer.set()
    run._courier._thread.join()
    run._spool.close()
    assert sync(run.folder) > 0
    assert database.get_run(run.run_id).info.status == "FINISHED"
    assert len(history(database, run.run_id, "train/loss")) == 1


def test_a_long_upload_is_waited_for(database, tmp_path, monkeypatch):
    with open_run(tmp_path) as run:
        run.flush(30)
        plain = run._store.apply
        monkeypatch.setattr(run._store, "apply", lambda folder, batch: (time.sleep(0.5), plain(folder, batch)))
        (run.folder / artifacts.REPORT).write_text("<html>")
        run.log_artifact(artifacts.REPORT)
        assert run.flush(0.2)


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
    (moved / "spool.offset").unlink()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path / "runs")

    assert sync(moved) == len((moved / "spool.jsonl").read_text().splitlines())

    assert not (moved / "spool.refused.jsonl").exists()
    assert len(history(database, run.run_id, "test/macro_f1")) == 1
    assert len(history(database, run.run_id, "train/loss")) == 1
    assert len(database.search_model_versions("name = 'twice'")) == 1
    assert repr(database.get_run(run.run_id).to_dictionary()) == repr(before)
    assert list((tmp_path / "runs").iterdir()) == []
