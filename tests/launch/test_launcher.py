"""Processes of a run: how many there are, what they get, and that none outlives its parent."""

import os
import signal
import subprocess
import sys
import time

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


_WORKER = """
import os, sys, time
from trainer.core import signals
from trainer.launch import launcher

def main():
    if sys.argv[1] == "fail":
        return 3
    try:
        with signals.raise_stops():
            open(sys.argv[2] + os.environ["RANK"], "w").close()
            time.sleep(60)
    finally:
        open(sys.argv[2] + os.environ["RANK"] + ".closed", "w").close()

launcher.end_with(main)
"""


@pytest.fixture
def launched(root, tmp_path, monkeypatch):
    """A launcher of two workers, as a process."""
    (tmp_path / "worker.py").write_text(_WORKER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(root)]))

    def start(*words):
        script = (
            "import sys; from trainer.launch import launcher; sys.exit(launcher.run_workers('worker', sys.argv[1:], 2))"
        )
        command = [sys.executable, "-c", script, *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return start


def test_the_status_is_that_of_a_worker_without_a_word_of_torchrun(launched, tmp_path):
    failing = launched("fail", str(tmp_path / "at"))
    assert failing.communicate(timeout=120)[0] == ""
    assert failing.returncode == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_launcher_stops_its_workers_and_is_its_status(launched, tmp_path, number):
    stopped = launched("wait", str(tmp_path / "at"))
    until = time.monotonic() + 120
    while len(list(tmp_path.glob("at?"))) < 2:
        assert time.monotonic() < until
        assert stopped.poll() is None
        time.sleep(0.05)
    stopped.send_signal(number)
    assert stopped.communicate(timeout=120)[0] == ""
    assert stopped.returncode == 128 + number
    assert len(list(tmp_path.glob("at?.closed"))) == 2


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
