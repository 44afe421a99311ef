"""What signals do while a run is open."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = ["handled", "raise_exit"]


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
