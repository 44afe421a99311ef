"""Ends a command whose `mlflow run` is gone: nobody would see its output or stop it, and its run would look killed."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

__all__ = ["end_with_mlflow_run"]

_SHELLS = {"bash", "sh", "dash", "busybox"}  # `mlflow run` starts `bash -c COMMAND`
_SECONDS = 1.0


def end_with_mlflow_run() -> None:
    """Send this process SIGTERM when the `mlflow run` that started it has ended; does nothing without one.

    Polls: the parent may be the shell between the two, which outlives `mlflow run`. A command that a user starts
    from a shell, also with MLFLOW_RUN_ID, has no Python process above it and ends with nothing.
    """
    if "MLFLOW_RUN_ID" not in os.environ:
        return
    import psutil

    try:
        ancestor = next((one for one in psutil.Process().parents() if one.name() not in _SHELLS), None)
        if ancestor is None:  # the first process of a container
            return
        if _is_python(ancestor):
            threading.Thread(target=_wait_and_stop, args=(ancestor,), daemon=True).start()
        # It died in the first second of this process, which the first process of the machine has taken over.
        elif ancestor.pid == 1 and not psutil.pid_exists(os.getpgrp()):
            os.kill(os.getpid(), signal.SIGTERM)
    except psutil.Error:  # a process ended while it was read, or belongs to another user
        return


def _is_python(process: "psutil.Process") -> bool:
    words = process.cmdline()
    return bool(words) and "python" in Path(words[0]).name


def _wait_and_stop(process: "psutil.Process") -> None:
    import psutil

    try:
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(_SECONDS)
    except psutil.NoSuchProcess:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
