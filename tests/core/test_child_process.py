"""Processes that end with the one that started them."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from trainer.core.child_process import child_command, parent_pipe, run_to_end

_MODULE = """
import os, sys, time
print(*sys.argv[1:], os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def module(tmp_path, monkeypatch, root):
    (tmp_path / "endless.py").write_text(_MODULE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(root)]))
    return "endless"


def wait_for_end(pid):
    until = time.monotonic() + 60
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, "the child has outlived its parent"
        time.sleep(0.05)


def test_a_child_ends_with_the_block_of_its_parent(module):
    with parent_pipe() as pipe:
        child = subprocess.Popen(child_command(module, ["--a", "1"]), stdin=pipe, stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline().split()[:2] == ["--a", "1"]
    assert child.wait(60) == -15
    child.stdout.close()


def test_a_child_ends_when_its_parent_is_killed_before_it_has_begun(module):
    script = (
        "import os, subprocess; from trainer.core.child_process import child_command, parent_pipe\n"
        f"with parent_pipe() as pipe:\n print(subprocess.Popen(child_command({module!r}, []), stdin=pipe).pid)"
        "\n import sys; sys.stdout.flush(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    wait_for_end(int(done.stdout.split()[0]))


def test_the_status_of_a_child_is_returned():
    command = [sys.executable, "-c", "import os, sys; sys.exit(int(os.environ['STATUS']))"]
    assert run_to_end(command, {"STATUS": "3"}) == 3
