"""Signal handlers for the time of a block."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = ["raise_system_exit", "signal_handlers"]


@contextmanager
def signal_handlers(
    handler: Callable[[int, FrameType | None], object] | signal.Handlers, *numbers: int
) -> Iterator[None]:
    """Install `handler` for these signals inside the block.

    Does nothing outside the main thread, where Python allows no handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def raise_system_exit(number: int, _: FrameType | None) -> NoReturn:
    """Raise SystemExit with the status a shell gives this signal, so that open files and runs are closed."""
    raise SystemExit(128 + number)
