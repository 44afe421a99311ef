"""Makes temporary folders that do not outlive their command for long: the next command removes those of killed ones."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trainer.core.signals import hold_stops

__all__ = ["remove_abandoned", "scratch_folder", "temporary_files_in"]

_PREFIX = "emotions-scratch-"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder that is removed after the block. This process holds a lock on it, which ends with the process."""
    with contextlib.ExitStack() as removed:
        with hold_stops():  # a stop between the making and the next line would leave the folder
            descriptor, folder = _make()
            removed.callback(_remove, descriptor, folder)
        yield folder


@contextlib.contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Let libraries put their temporary files into `folder` inside the block."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def remove_abandoned() -> None:
    """Remove the folders of this user's processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, another user's, or removed by another command meanwhile
            descriptor = _open(folder)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.getuid():
                    shutil.rmtree(folder)
            finally:
                os.close(descriptor)


def _remove(descriptor: int, folder: Path) -> None:
    with hold_stops():
        shutil.rmtree(folder)
        os.close(descriptor)


def _make() -> tuple[int, Path]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with contextlib.suppress(FileNotFoundError):  # another command has removed it before it was locked
            descriptor = _open(folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if folder.exists():
                return descriptor, folder
            os.close(descriptor)


def _open(folder: Path) -> int:
    """Open a folder, but no link to one, which another user may have put there."""
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
