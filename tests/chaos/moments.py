"""Counts the writes of a command inside its process, and attacks it before one of them.

A write is a file opened for writing, renamed, made or removed below the folder of the attempt, and a call of
`MlflowClient` that changes something. Such moments hit the narrow windows that moments by the clock miss.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Moment", "WriteCounter", "fill_disk", "kill_self"]

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_VERBS = ("create_", "set_", "delete_", "log_", "update_", "restore_")


def kill_self() -> None:
    """End this process as a lack of memory would."""
    os.kill(os.getpid(), signal.SIGKILL)


def fill_disk(folder: Path, free: int) -> None:
    """Leave `free` bytes on the disk of a folder, in which a file `filler` takes the rest."""
    status = os.statvfs(folder)
    size = max(status.f_bavail * status.f_frsize - free, 0)
    file = os.open(folder / "filler", os.O_WRONLY | os.O_CREAT)
    os.posix_fallocate(file, 0, max(size, 1))
    os.close(file)


@dataclass(frozen=True)
class Moment:
    """Calls `attack` inside the process of a command, before the write with this number, from 1."""

    number: int
    attack: Callable[[], None] = kill_self


class WriteCounter:
    """Counts writes below a folder, and attacks at a moment."""

    def __init__(self, folder: Path, moment: Moment | None) -> None:
        self.count = 0
        self._root = os.fspath(folder)
        self._moment = moment

    def install(self) -> None:
        """Count from now on. Python cannot remove an audit hook, so this process runs one command only."""
        sys.addaudithook(self._audit)
        from mlflow import MlflowClient

        for name in dir(MlflowClient):
            if name.startswith(_VERBS):
                setattr(MlflowClient, name, self._counted(getattr(MlflowClient, name)))

    def _audit(self, event: str, values: tuple) -> None:
        if event == "open":
            path, _mode, flags = values
            if not (flags or 0) & _WRITING:
                return
        elif event in _CHANGES:
            path = values[0]
        else:
            return
        if isinstance(path, int):
            return
        if os.path.abspath(os.fsdecode(path)).startswith(self._root):  # noqa: PTH100  # pathlib is 20 times slower
            self._add()

    def _counted(self, call):
        def counting(*arguments, **more):
            self._add()
            return call(*arguments, **more)

        return counting

    def _add(self) -> None:
        self.count += 1
        if self._moment and self.count == self._moment.number:
            self._moment.attack()
