"""What signals do while a run is open."""

import ctypes
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = ["end_with_parent", "handled", "raise_exit"]

_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent() -> None:
    """Have SIGTERM sent to this process when the one that started it ends: else it would go on beside its resumption.

    Linux alone can do so; elsewhere the children of a killed process have to be stopped by hand.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def handled(handler: Callable[[int, FrameType | None], object] | signal.Handlers, *numbers: int) -> Iterator[None]:
    """Inside, signals of these numbers go to `handler`. Outside the main thread, which alone may say so, as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def raise_exit(number: int, _: FrameType | None) -> NoReturn:
    """Make a signal an exception, so that what is open is closed like after any other."""
    raise SystemExit(128 + number)
