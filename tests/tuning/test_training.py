"""One training as a search sees it. Nothing is trained."""

import json
import os
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pytest

from tests.tuning.tuning_parts import is_alive
from trainer.core import artifacts
from trainer.tracking.event_log import EventLog
from tuning.execution import process, training
from tuning.execution.process import Share
from tuning.execution.training import Order, Training, Turn

SHARE = Share((0,))


class Process:
    """Stands for a child process."""

    def __init__(self):
        self.status = None
        self.asked = []

    def ask_to_stop(self):
        self.asked.append("stop")

    def kill(self):
        self.asked.append("kill")

    def wait(self):
        self.asked.append("wait")


@pytest.fixture
def started(monkeypatch):
    """Command lines of the trainings that were started, with variables."""
    found = []

    def start(words, share, log, variables):
        found.append((list(words), dict(variables), share, log))
        return Process()

    monkeypatch.setattr(process, "start", start)
    return found


@pytest.fixture
def order(tmp_path):
    return Order(("--epochs", "3"), {"learning_rate": 1e-4, "compile": True, "seed": 7}, tmp_path / "runs" / "r1")


class TestTurn:
    def test_comes_when_the_folder_is_free_or_after_a_minute(self, order, monkeypatch):
        class Clock:
            now = 5.0

            def monotonic(self):
                return self.now

        clock = Clock()
        monkeypatch.setattr(training, "time", clock)
        monkeypatch.setattr(training, "is_locked", lambda folder: folder == order.folder)
        turn = Turn(order)
        clock.now += training._BUSY_SECONDS - 1
        assert not turn.has_come
        clock.now += 1
        assert turn.has_come
        assert Turn(Order((), {}, order.folder.with_name("r2"))).has_come


class TestTraining:
    def test_a_new_one_writes_into_the_run_it_is_given(self, started, order):
        Training(order, SHARE)
        words = ["--epochs", "3", "--learning_rate", "0.0001", "--compile", "true", "--seed", "7"]
        assert started == [(words, {"MLFLOW_RUN_ID": "r1"}, SHARE, order.folder / artifacts.TRIAL_LOG)]
        assert order.folder.is_dir()

    def test_one_that_was_begun_is_resumed(self, started, order):
        order.folder.mkdir(parents=True)
        (order.folder / artifacts.CONFIG).write_text('{"dataset": "here"}')
        Training(order, SHARE)
        words, variables, *_ = started[0]
        assert words[-4:] == ["--dataset", "here", "--resume", "r1"]
        Training(replace(order, words=("--model", "--dataset", "--dataset", "./here", "--epochs", "3")), SHARE)
        assert started[1][0][:6] == ["--model", "--dataset", "--dataset", "here", "--epochs", "3"]
        assert started[1][0].count("--dataset") == 2
        assert variables == {}

    def test_has_an_outcome_when_it_has_ended_well(self, order):
        assert order.outcome is None
        order.folder.mkdir(parents=True)
        (order.folder / artifacts.OUTCOME).write_text('{"dev/macro_f1": 0.5}')
        assert order.outcome == {"dev/macro_f1": 0.5}

    @pytest.mark.parametrize(
        ("log", "cause"),
        [
            ("", "exit status None: no output"),
            ("\n  \n", "exit status None: no output"),
            ("epoch 1\nKilled\n\n", "exit status None: Killed"),
            ("error: it is short\n", "it is short"),
            (
                "epoch 1\nerror: loss must be finite,\n       but got loss=nan\n       at step=3.\nend\n",
                "loss must be finite, but got loss=nan at step=3.",
            ),
            ("error: the first\n       one\nepoch 2\nerror: the second\n", "the second"),
            (
                "Traceback (most recent call last):\n  File a.py\nValueError: wrong\n",
                "exit status None: ValueError: wrong",
            ),
            ("the error: is not at the start\nlast\n", "exit status None: last"),
            ("error: " + "x" * 2000, "x" * 500),
            ("y" * 2000, "exit status None: " + "y" * 482),
        ],
    )
    def test_says_why_it_failed(self, started, order, log, cause):
        one = Training(order, SHARE)
        (order.folder / artifacts.TRIAL_LOG).write_text(log)
        assert one.cause() == cause

    def test_a_log_that_is_missing_or_no_text_is_no_error(self, started, order):
        one = Training(order, SHARE)
        assert one.cause() == "exit status None: no output"
        (order.folder / artifacts.TRIAL_LOG).write_bytes(b"error: \xff\xfe broken\n")
        assert one.cause().endswith("broken")

    def test_what_was_not_used_as_it_was_given_is_named(self, order):
        order.folder.mkdir(parents=True)
        config = order.folder / artifacts.CONFIG
        config.write_text(json.dumps({"learning_rate": 0.0001, "compile": True, "seed": 7, "epochs": 3}))
        assert order.misuse() == ""
        config.write_text(json.dumps({"learning_rate": 0.00010000000000000002, "compile": True}))
        assert order.misuse() == ("learning_rate: 0.0001 given, 0.00010000000000000002 used; seed: 7 given, None used")

    def test_scores_are_read_as_they_are_written(self, started, order):
        one = Training(order, SHARE)
        name = "dev/macro_f1"
        assert one.scores(name) == []
        with EventLog(order.folder) as spool:
            spool.append("r1", "open", {"uri": "x"})
            spool.append("r1", "metrics", {"metrics": {"train/epoch": 0.5, "train/loss": 1.0}, "step": 5})
            assert one.scores(name) == []
            spool.append("r1", "metrics", {"metrics": {name: 0.25}, "step": 5})
            assert one.scores(name) == [(0.5, 0.25)]
            assert one.scores(name) == []
            spool.append("r1", "metrics", {"metrics": {"train/epoch": 1.0}, "step": 10})
            spool.append("r1", "metrics", {"metrics": {name: 0.5}, "step": 10})
            spool.append("r1", "metrics", {"metrics": {"train/epoch": 2.0, name: 0.75}, "step": 20})
        assert one.scores(name) == [(1.0, 0.5), (2.0, 0.75)]
        path = order.folder / "events.jsonl"
        line = path.read_bytes().splitlines(keepends=True)[-1]
        for piece in (line[:10], line[10:-1]):
            with path.open("ab") as file:
                file.write(piece)
            assert one.scores(name) == []
        with path.open("ab") as file:
            file.write(line[-1:])
        assert one.scores(name) == [(2.0, 0.75)]


DEAF = """
    import os, signal, time
    from tuning import child

    def main(words):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        process.STOP_SECONDS = 0.5
        print(os.getpid(), flush=True)
        time.sleep(600)
"""
DRIVER = """
    import time
    from pathlib import Path
    from tuning import child

    process.TRAINING, child._PRELOADED = "deaf_training", []
    if __name__ == "__main__":
        child.start([], process.Share((0,)), Path("log"), {})
        time.sleep(600)
"""


def said(log):
    """What a training has written, once it has."""
    until = time.monotonic() + 60
    while not (log.is_file() and log.read_text().endswith("\n")):
        assert time.monotonic() < until
        time.sleep(0.01)
    return log.read_text()


def test_a_training_that_ignores_sigterm_ends_soon_after_its_driver(tmp_path, root):
    (tmp_path / "deaf_training.py").write_text(textwrap.dedent(DEAF))
    (tmp_path / "driver.py").write_text(textwrap.dedent(DRIVER))
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{tmp_path}"}
    with subprocess.Popen([sys.executable, "driver.py"], cwd=tmp_path, env=environment) as driver:
        try:
            pid = int(said(tmp_path / "log"))
        finally:
            driver.kill()
    until = time.monotonic() + 60
    while is_alive(pid):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_training_that_ignores_sigterm_is_really_ended(tmp_path, monkeypatch):
    """One real process, started as trainings are."""
    (tmp_path / "deaf_training.py").write_text(textwrap.dedent(DEAF))
    monkeypatch.setattr(process, "TRAINING", "deaf_training")
    monkeypatch.setattr(process, "_PRELOADED", [])
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    one = training.Training(Order(("--a", "b"), {}, tmp_path / "r"), SHARE)
    assert int(said(tmp_path / "r" / artifacts.TRIAL_LOG)) > 0
    one.ask_to_stop()
    assert one.status is None
    one.clean_up()
    one.wait(60)
    assert one.status == -9
