"""Processes of a run: how many there are, what they get, and that none outlives its parent."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from trainer.core.errors import SettingsError
from trainer.launch import launcher

_CHILD = (
    "import time; from trainer.launch import launcher; launcher._end_with_parent(); print('ready', flush=True); "
    "time.sleep(60)"
)
_PARENT = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {_CHILD!r}]); time.sleep(60)"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such call")
def test_a_process_ends_when_its_parent_is_killed(root):
    with subprocess.Popen([sys.executable, "-c", _PARENT], cwd=root, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "ready\n"
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
        child.wait(30)
    assert not child.is_running()


def test_the_number_of_processes_is_that_of_the_gpus_unless_it_is_given(monkeypatch):
    import torch

    for gpus, expected in ((0, 1), (1, 1), (4, 4)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert launcher.count_processes("auto") == expected
        assert launcher.count_processes("1") == 1
    with pytest.raises(SettingsError, match=r"`processes` .*4, got 5"):
        launcher.count_processes("5")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(launcher, "available_cores", lambda: list(range(6)))
    assert launcher.count_processes("6") == 6
    with pytest.raises(SettingsError, match=r"`processes` .*6, got 1000"):
        launcher.count_processes("1000")


@pytest.fixture
def started(monkeypatch):
    """The command and environment of the process that run_workers starts; it ends by SIGTERM."""
    seen = {}

    class Process:
        def __init__(self, command, env):
            seen.update(command=command, env=env)

        def wait(self):
            return -signal.SIGTERM

    monkeypatch.setattr(launcher.subprocess, "Popen", Process)
    return seen


def test_workers_get_equal_cores_and_their_signal_becomes_a_status(started, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(launcher, "available_cores", lambda: list(range(6)))
    assert launcher.run_workers("trainer.train", ["--epochs", "1"], 4) == 128 + signal.SIGTERM
    assert started["command"][-4:] == ["-m", "trainer.train", "--epochs", "1"]
    assert "--nproc-per-node=4" in started["command"]
    assert started["env"]["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    launcher.run_workers("trainer.train", [], 2)
    assert started["env"]["OMP_NUM_THREADS"] == "3"
    assert os.environ["OMP_NUM_THREADS"] == "3"
