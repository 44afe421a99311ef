"""Counts the writes of a command inside its process, and kills it before one of them.

A write is a file opened for writing, renamed, made or removed below the folder of the attempt, and a call of
`MlflowClient` that changes something. Kills at such moments hit the narrow windows that kills by the clock miss.
"""

import os
import signal
import sys
from pathlib import Path

__all__ = ["WriteCounter"]

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_VERBS = ("create_", "set_", "delete_", "log_", "update_", "restore_")


class WriteCounter:
    """Kills this process before the write with the number `kill_before`, from 1; never for 0."""

    def __init__(self, folder: Path, kill_before: int) -> None:
        self.count = 0
        self._root = os.fspath(folder)
        self._kill_before = kill_before

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
            if isinstance(path, int) or not (flags or 0) & _WRITING:
                return
        elif event in _CHANGES:
            path = values[0]
        else:
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
        if self.count == self._kill_before:
            os.kill(os.getpid(), signal.SIGKILL)
