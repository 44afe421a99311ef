"""Child processes that never outlive the process that started them, on any system.

    run_to_end(child_command("package.module", ["--option", "value"]))

The standard input of the child is a pipe. It closes when its parent ends in any way, even before the child has begun,
and then the child stops itself.
"""

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from trainer.core.environment import child_environment

__all__ = ["FIRST_SIGNAL_STATUS", "STOP_SECONDS", "child_command", "kill_tree", "parent_pipe", "run_to_end"]

STOP_SECONDS = 30.0
FIRST_SIGNAL_STATUS = 128
"""Exit statuses above it mean that a signal ended the process, as in a shell."""
"""Time for a child to close its run after SIGTERM; then it is killed."""


def child_command(module: str, argv: Sequence[str], *python_options: str) -> list[str]:
    """Return the command that runs a module as a child; its standard input must be a pipe from this process."""
    return [sys.executable, *python_options, "-m", __name__, module, *argv]


@contextlib.contextmanager
def parent_pipe() -> Iterator[int]:
    """Give the standard input of a child, which stops itself when the block or this process ends."""
    read, write = os.pipe()
    try:
        yield read
    finally:
        os.close(read)
        os.close(write)


def run_to_end(command: Sequence[str], variables: Mapping[str, str] | None = None) -> int:
    """Return the exit status of a child; a stop of this process stops it too, and waits until it has closed its run.

    variables: environment variables besides those of this process.
    """
    with parent_pipe() as pipe:
        process = subprocess.Popen(command, env={**child_environment(), **(variables or {})}, stdin=pipe)
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            process.kill()
            raise


def kill_tree(pid: int) -> None:
    """Kill a process that leads a process group, and everything that it started."""
    import psutil

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
    kill_tree(os.getpid())  # it did not react to SIGTERM
    os.kill(os.getpid(), signal.SIGKILL)  # where it leads no process group


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
