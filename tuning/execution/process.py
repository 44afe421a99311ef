"""Trainings as child processes, started from a process that has loaded what they need.

Loading torch, transformers and mlflow takes most of the time that a short training takes. Python's fork server loads
them once, in a process of its own, and every training is a fresh fork of that: nothing of one training is left to the
next, and this process never loads any of it.
"""

import contextlib
import importlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import psutil

__all__ = ["STOP_SECONDS", "TRAINING", "Child", "Share", "start"]

TRAINING = "trainer.train"
"""Module whose `main` is the command that trains."""
STOP_SECONDS = 30.0
"""For which a training that was asked to stop may still close its run."""
_PRELOADED = ["trainer.pipeline"]
_FORKS = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Share:
    """What one worker has of the machine: numbers of cores and, where there are any, names of GPUs."""

    cores: tuple[int, ...]
    gpus: tuple[str, ...] | None = None
    threads: int = 1
    """Of each process of a training."""


class Child:
    """A training that runs beside this process."""

    def __init__(self, process: ForkServerProcess) -> None:
        process.start()
        self._process = process
        self._pid: int = process.pid  # type: ignore[assignment]  # it has one since it was started; also its group's

    @property
    def status(self) -> int | None:
        """Exit status once it has ended: negative is the number of the signal that killed it."""
        return self._process.exitcode

    def ask_to_stop(self) -> None:
        """Send SIGTERM: the run is closed, and what it has kept stays."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it and everything it started, at once."""
        _kill_all(self._pid)

    def wait(self, seconds: float | None = None) -> None:
        """Wait for its end, at most so long."""
        self._process.join(seconds)


def start(words: Sequence[str], share: Share, log: Path, variables: Mapping[str, str]) -> Child:
    """Start a training with this command line. Its output is appended to `log`; `variables` join its environment."""
    _FORKS.set_forkserver_preload(_PRELOADED)
    # As it is now: that of the fork server is as old as itself.
    environment = {**os.environ, "OMP_NUM_THREADS": str(share.threads), **variables}
    process = _FORKS.Process(target=_train, args=(TRAINING, list(words), share, log.resolve(), environment, Path.cwd()))
    return Child(process)


def _train(module: str, words: list[str], share: Share, log: Path, environment: dict[str, str], folder: Path) -> None:
    os.setsid()  # so that Ctrl-C reaches this process's parent alone, and `kill` all that it starts
    threading.Thread(target=_end_with_driver, daemon=True).start()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.argv = [module, *words]
    sys.orig_argv = [sys.executable, "-m", *sys.argv]  # what the run says it was started with
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if share.gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(share.gpus)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share.cores)
    sys.exit(importlib.import_module(module).main(words))


def _end_with_driver() -> None:
    """End this process like a stop from outside when the driver is gone: it would go on beside its resumption."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        multiprocessing.connection.wait([driver.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        _kill_all(os.getpid())


def _kill_all(pid: int) -> None:
    """Kill the leader of a group, and all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):  # torchrun's workers have groups of their own
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
