"""A training as a child process, which never outlives the process that started it."""

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from trainer.core.environment import child_environment
from tuning.execution.resources import Resources

__all__ = ["STOP_SECONDS", "TRAINING", "TrainingProcess"]

TRAINING = "trainer.train"
"""Module that trains when it is run."""
STOP_SECONDS = 30.0
"""Time for a training to close its run after SIGTERM; then it is killed."""


class TrainingProcess:
    """A running training. Its standard input is a pipe: the child ends itself when this process is gone."""

    def __init__(self, argv: Sequence[str], resources: Resources, log: Path, variables: Mapping[str, str]) -> None:
        environment = {**child_environment(), "OMP_NUM_THREADS": str(resources.threads), **variables}
        if resources.gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(resources.gpus)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                # This module watches the pipe, then runs the training.
                [sys.executable, "-m", __name__, TRAINING, *argv],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches this process alone
            )
        if hasattr(os, "sched_setaffinity"):  # macOS has no such call
            with contextlib.suppress(ProcessLookupError):  # it may have ended already
                os.sched_setaffinity(self._process.pid, resources.cores)

    @property
    def status(self) -> int | None:
        """Exit status, negative for the signal that killed it; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Send SIGTERM and wait for the end, so that the run is closed and the checkpoint whole; then clean up."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.terminate()
            self._process.wait(STOP_SECONDS)
        self.clean_up()

    def clean_up(self) -> None:
        """Kill the training and everything that it started."""
        _kill_tree(self._process.pid)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def _kill_tree(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):  # workers of torchrun have process groups of their own
        # The children first: those of a process that is gone cannot be listed.
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _end_with_parent() -> None:
    """Wait until the parent closes the pipe, which its death does too, and end this process like a stop."""
    os.read(sys.stdin.fileno(), 1)  # unbuffered: a lock on the buffer would abort the interpreter's shutdown
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    _kill_tree(os.getpid())  # the training did not react to SIGTERM


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
