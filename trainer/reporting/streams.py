"""Standard output and error that may go away: a lost pipe or terminal ends the output of a command, not the command."""

import errno
import io
import os
import sys
from pathlib import Path
from typing import TextIO

__all__ = ["survive_lost_output"]

_LOST = {errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO}  # `| head -1`; a closed terminal; a closed descriptor


def survive_lost_output() -> None:
    """Replace the standard streams of this process by ones whose writes never fail."""
    for descriptor in range(3):
        _reserve(descriptor)
    if sys.stdout is None or sys.stdout is sys.__stdout__:  # not one that a test or a notebook has put there
        sys.stdout = _lossy(sys.stdout, 1)
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _lossy(sys.stderr, 2)


class _LossyFile(io.FileIO):
    """A file whose output is dropped when it cannot be written."""

    def write(self, data: object) -> int:
        """Return the number of bytes taken."""
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in _LOST:  # for other writers to the descriptor too: torch, child processes
                _open_null(self.fileno())
            return len(memoryview(data).cast("B"))  # type: ignore[arg-type]


def _lossy(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:  # closed when Python started
        return Path(os.devnull).open("w", encoding="utf-8")
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_LossyFile(descriptor, "w", closefd=False)),
        encoding=stream.encoding,
        errors="replace",
        line_buffering=True,
    )


def _reserve(descriptor: int) -> None:
    """Open a closed standard descriptor: a file of the run would get its number, and then what children print."""
    try:
        os.fstat(descriptor)
    except OSError:
        _open_null(descriptor)


def _open_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)
