"""A command ends with the `mlflow run` that started it, and with nothing else."""

import os
import subprocess
import sys
import time

import pytest

_COMMAND = """
import os, sys, time
from pathlib import Path
from trainer.reporting.command import run_cli

def command(words):
    Path(words[0]).write_text("begun")
    time.sleep(float(words[1]))

def on_error(error):
    Path(words[0] + ".end").write_text(repr(error))

words = sys.argv[1:]
sys.exit(run_cli(command, words, on_error))
"""


def read_when_there(path):
    until = time.monotonic() + 60
    while not (path.is_file() and path.read_text()):
        assert time.monotonic() < until, f"{path} is not written"
        time.sleep(0.05)
    return path.read_text()


@pytest.fixture
def command(tmp_path, root):
    """A shell command line that runs the command below a shell, as `mlflow run` does."""
    (tmp_path / "command.py").write_text(_COMMAND)

    def line(seconds):
        return f"cd {root} && {sys.executable} {tmp_path / 'command.py'} {tmp_path / 'begun'} {seconds}; echo $?"

    return line


@pytest.mark.parametrize("number", [15, 9])
def test_it_stops_when_mlflow_run_is_gone(command, tmp_path, root, number):
    script = f"import subprocess; subprocess.run(['bash', '-c', {command(120)!r}])"
    environment = {**os.environ, "MLFLOW_RUN_ID": "abc", "PYTHONPATH": str(root)}
    with (tmp_path / "log").open("w") as log:
        parent = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=log, stderr=log)
    read_when_there(tmp_path / "begun")
    parent.send_signal(number)
    parent.wait()
    assert "143" in read_when_there(tmp_path / "begun.end")
    assert read_when_there(tmp_path / "log").split() == ["143"]


def test_it_goes_on_when_the_shell_that_started_it_ends(command, tmp_path, root):
    environment = {**os.environ, "PYTHONPATH": str(root)}
    line = f"({command(3)}) > {tmp_path / 'log'} 2>&1 &"
    subprocess.run(["setsid", "bash", "-c", line], env=environment, check=True)
    assert read_when_there(tmp_path / "log").split() == ["0"]
    assert not (tmp_path / "begun.end").exists()
