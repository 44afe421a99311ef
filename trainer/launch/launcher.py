"""Starts the processes of a run: one in this process, or several through torchrun."""

import ctypes
import logging
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from trainer.core import signals
from trainer.core.environment import available_cores
from trainer.core.errors import SettingsError
from trainer.core.tracebacks import is_debugging

__all__ = ["count_processes", "end_with", "in_worker", "run_workers"]

_PR_SET_PDEATHSIG = 1  # prctl(2)
_PARENT_VARIABLE = "EMOTIONS_PARENT_PID"
_MIN_PROCESSES = 2  # also one core can run two, for a trial


def in_worker() -> bool:
    """Return whether a launcher started this process as one of several."""
    return "LOCAL_RANK" in os.environ


def count_processes(setting: str) -> int:
    """Return the number of processes for the setting `processes`; `auto` means one per GPU, or one without GPUs.

    Raises SettingsError for more processes than GPUs or, without GPUs, cores.
    """
    import torch  # slow to load, and `--help` must not wait for it

    gpus = torch.cuda.device_count()
    if setting == "auto":
        return max(gpus, 1)
    most = gpus or max(len(available_cores()), _MIN_PROCESSES)
    if int(setting) > most:
        devices = "GPUs" if gpus else "cores"
        raise SettingsError(f"`processes` must be at most the number of {devices}, {most}, got {setting}.")
    return int(setting)


def run_workers(module: str, argv: Sequence[str], processes: int) -> int:
    """Run `python -m module argv` in several processes on this machine, and return the exit status.

    Stop signals go on to the workers, and each worker gets the same number of cores.
    """
    # --standalone takes a free port, so that several runs on one machine do not meet.
    command = [sys.executable, "-m", "trainer.launch.launcher", "--standalone", f"--nproc-per-node={processes}"]
    threads = str(max(len(available_cores()) // processes, 1))  # torchrun would give each worker one thread
    environment = {"OMP_NUM_THREADS": threads, "TORCH_CPP_LOG_LEVEL": "ERROR"} | dict(os.environ)
    environment[_PARENT_VARIABLE] = str(os.getpid())
    workers = subprocess.Popen([*command, "-m", module, *argv], env=environment)
    received: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        if not received:  # torchrun would leave its workers at a second one
            workers.send_signal(number)
        received.append(number)

    # A scheduler may signal this process alone, and its workers must stop too.
    with signals.signal_handlers(forward, *signals.STOP_SIGNALS):
        status = workers.wait()
    if received:
        return 128 + received[0]
    return status if status >= 0 else 128 - status  # the status that a shell gives a death by signal


def end_with(main: Callable[[], int]) -> NoReturn:
    """Run `main` and end this process with its status.

    A worker skips the interpreter's teardown and never destroys its process group, because PyTorch 2.13 can hang in
    both: the destructor of a gloo group joins a thread that waits for the interpreter lock, which the caller of the
    destructor has.
    """
    if not in_worker():
        sys.exit(main())
    _end_with_parent()
    status = 1
    try:
        status = main()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)  # as Python: text is 1
    except BaseException:  # the last frame of the process: nothing above could handle it
        traceback.print_exc()
    sys.stdout.flush()  # os._exit flushes nothing
    sys.stderr.flush()
    os._exit(status)


def _end_with_parent() -> None:
    """Ask Linux to stop this process when its parent is killed: otherwise it would train while the run is resumed.

    Other systems have no such call; there the workers of a killed launcher must be stopped by hand.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    parent = os.environ.get(_PARENT_VARIABLE)  # absent under a torchrun that the user started
    if parent is not None and int(parent) != os.getppid():  # killed before the call above
        os.kill(os.getpid(), signal.SIGTERM)


def _torchrun() -> NoReturn:
    """Run torchrun in this process, so that it ends with its parent, as the workers do, and end with their status.

    What a worker has to say it has said: torchrun's own messages and traceback are left out.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    _end_with_parent()
    os.environ[_PARENT_VARIABLE] = str(os.getpid())
    if not is_debugging():
        logging.disable(logging.CRITICAL)
    try:
        runpy.run_module("torch.distributed.run", run_name="__main__", alter_sys=True)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        sys.exit(failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode)
    except SignalException as stop:
        sys.exit(128 + stop.sigval)
    sys.exit(0)


if __name__ == "__main__":
    _torchrun()
