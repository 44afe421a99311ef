"""How a training is started or resumed as a process, followed, and why it failed."""

import json
import subprocess
import sys
import threading

import pytest

from trainer.config import parse
from trainer.core import artifacts
from trainer.core.settings import flatten, names_given
from tuning.execution import executor, process
from tuning.execution.executor import (
    ProcessExecutor,
    TrainingFailedError,
    TrainingKilledError,
    TrainingRequest,
    TrainingServerError,
)
from tuning.execution.resources import Resources

PROGRAM = """
import os, sys, time
mode = os.environ["MODE"]
print(os.environ["OMP_NUM_THREADS"], os.environ["CUDA_VISIBLE_DEVICES"], *sys.argv[1:])
if mode == "fails":
    sys.exit("a warning\\nerror: loss is not finite\\n       at step 3\\nsomething else")
if mode == "no server":
    sys.exit("error: Cannot connect to tracking\\n       server https://host (refused).")
if mode == "refused":
    sys.exit("error: Cannot connect to tracking server https://host (401: wrong or no credentials). Correct it.")
if mode == "crashes":
    sys.exit("OperationalError: postgresql://ann:hunter/2@db/mlflow is away")
if mode == "killed":
    os.kill(os.getpid(), 9)
if mode == "sleeps":
    time.sleep(60)
"""


class Monitor:
    def __init__(self):
        self.metrics, self.error = [], None

    def report(self, metrics):
        self.metrics += metrics

    def check(self):
        if self.error:
            raise self.error


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a training that is the program above."""
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(process, "TRAINING", "program")
    monkeypatch.setattr(executor, "_TICK_SECONDS", 0.05)
    request = TrainingRequest({"epochs": 2}, tmp_path / "runs" / "a")

    def call(mode, monitor=None):
        monkeypatch.setenv("MODE", mode)
        ProcessExecutor().run(request, Resources((0,), ("7",), threads=3), monitor or Monitor())
        return (request.folder / artifacts.TRIAL_LOG).read_text()

    return call


def test_a_training_gets_only_the_settings_that_it_reads(tmp_path):
    given = {"preset": "starter", "gamma": 3.0, "margin": 0.1, "epochs": 2}
    for loss, unread in (("bce", {"gamma", "margin"}), ("focal", {"margin"}), ("combined", set())):
        request = TrainingRequest({**given, "loss": loss}, tmp_path)
        assert set(given) - set(request.arguments) == unread


def test_a_training_gets_its_resources_and_settings(run):
    assert run("ends") == "3 7 --epochs=2\n"


def test_a_failed_training_raises_the_error_it_printed(run):
    with pytest.raises(TrainingFailedError, match=r"^loss is not finite at step 3$"):
        run("fails")


def test_the_cause_of_a_crash_shows_no_password(run):
    with pytest.raises(TrainingFailedError, match=r"^exit status 1: OperationalError: postgresql://db/mlflow is away$"):
        run("crashes")


def test_a_training_that_no_server_answered_can_be_repeated(run):
    with pytest.raises(TrainingServerError, match="https://host"):
        run("no server")


def test_a_training_that_the_server_refused_is_not_repeated(run):
    with pytest.raises(TrainingFailedError, match="401") as raised:
        run("refused")
    assert not isinstance(raised.value, TrainingServerError)


def test_a_killed_training_is_no_failure(run):
    with pytest.raises(TrainingKilledError, match="-9"):
        run("killed")


def test_an_exception_of_the_monitor_stops_the_training(run):
    monitor = Monitor()
    monitor.error = KeyError("stop")
    before = threading.active_count()
    with pytest.raises(KeyError):
        run("sleeps", monitor)
    assert threading.active_count() == before


def test_a_run_that_has_begun_is_resumed_with_the_path_of_its_data(tmp_path):
    folder = tmp_path / "a"
    request = TrainingRequest({"epochs": 2, "dataset": "new/path", "preset": "goemotions-minilm"}, folder)
    expected = ["--epochs=2", "--dataset=new/path", "--preset=goemotions-minilm"]
    assert executor._command(request) == (expected, {"MLFLOW_RUN_ID": "a"})
    folder.mkdir()
    (folder / artifacts.CONFIG).write_text(json.dumps({"epochs": 2, "dataset": "old/path"}))
    argv, variables = executor._command(request)
    assert (names_given(argv), variables) == (["epochs", "dataset", "preset", "resume"], {})
    assert {"--dataset=old/path", "--resume=a"} <= set(argv)


@pytest.mark.parametrize("given", [{"dataset": "new/path"}, {"dataset_revision": "v2"}])
def test_a_training_whose_preset_names_another_data_set_is_resumed(given, tmp_path):
    settings = {"preset": "goemotions-minilm", "model": "starter", "output": str(tmp_path), **given}
    request = TrainingRequest(settings, tmp_path / "a")
    started = flatten(parse(executor._command(request)[0]))
    request.folder.mkdir()
    moved = {"dataset": "old/path"} if "dataset" in given else {}
    (request.folder / artifacts.CONFIG).write_text(json.dumps({**started, **moved}))
    resumed = flatten(parse(executor._command(request)[0]))
    assert resumed == {**started, **moved, "resume": "a"}


def test_a_run_with_damaged_settings_fails(tmp_path):
    (tmp_path / artifacts.CONFIG).write_text("{")
    with pytest.raises(TrainingFailedError, match=artifacts.CONFIG):
        executor._command(TrainingRequest({"epochs": 2}, tmp_path))


def test_settings_that_the_training_did_not_use_are_named(tmp_path):
    (tmp_path / artifacts.CONFIG).write_text(json.dumps({"epochs": 2, "dropout": 0.1}))
    assert TrainingRequest({"epochs": 2}, tmp_path).settings_mismatch == ""
    assert "dropout" in TrainingRequest({"dropout": 0.2}, tmp_path).settings_mismatch


def test_a_run_that_an_earlier_training_is_closing_is_waited_for(run, tmp_path, root):
    monitor, folder = Monitor(), tmp_path / "runs" / "a"
    monitor.error = KeyError("still waiting")
    program = "import sys; from pathlib import Path; from trainer.tracking.event_log import EventLog; "
    program += "log = EventLog(Path(sys.argv[1])); print(flush=True); input()"
    command = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as earlier:
        earlier.stdout.readline()
        with pytest.raises(KeyError, match="still waiting"):
            run("ends", monitor)
        assert not (folder / artifacts.TRIAL_LOG).exists()
        earlier.stdin.close()
