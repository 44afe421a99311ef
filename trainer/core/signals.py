"""Stop signals of a command: the first one unwinds it, so that files and runs are closed; later ones change nothing."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

__all__ = [
    "STOP_SIGNALS",
    "describe_stop",
    "hold_stops",
    "ignore_stops",
    "is_stop",
    "note_stops",
    "raise_stops",
    "signal_handlers",
]

STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
"""A scheduler, a closed terminal, Ctrl-C and Ctrl-backslash."""

_STATUS_OF_SIGNAL = 128  # to which a shell adds the number
_REPEAT_SECONDS = 0.05
# Of the outermost `raise_stops`: a second signal must not interrupt what the first one closes.
_received: list[int] = []


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


@contextmanager
def raise_stops() -> Iterator[None]:
    """Raise the first stop signal of the block: KeyboardInterrupt for Ctrl-C, SystemExit with 128 + n for the others.

    Later ones are ignored. A block within the block changes nothing. Python drops an exception that a destructor or a
    weakref callback raises: a signal that came in one is sent again.
    """
    if any(signal.getsignal(number) is _raise_first for number in STOP_SIGNALS):
        yield
        return
    _received.clear()
    report_lost = sys.unraisablehook
    sys.unraisablehook = lambda lost: _repeat() if _received and is_stop(lost.exc_value) else report_lost(lost)
    try:
        with signal_handlers(_raise_first, *_wanted()):
            yield
    finally:
        sys.unraisablehook = report_lost


@contextmanager
def note_stops(handle: Callable[[], object]) -> Iterator[None]:
    """Call `handle` at each stop signal of the block, and raise the first one after the block."""

    def note(number: int, _frame: FrameType | None) -> None:
        _received.append(number)
        handle()

    with raise_stops():
        with signal_handlers(note, *_wanted()):
            yield
        if _received:
            raise _stop(_received[0])


@contextmanager
def hold_stops() -> Iterator[Callable[[], None]]:
    """Hold stop signals back until the function that is yielded is called, which raises them; at the latest to the end.

    For steps between which a stop would lose what has to be closed.
    """
    held: list[int] = []
    with ExitStack() as handlers:
        handlers.enter_context(signal_handlers(lambda number, _: held.append(number), *_wanted()))

        def release() -> None:
            handlers.close()
            if held:
                signal.raise_signal(held.pop())

        yield release
    release()


@contextmanager
def ignore_stops() -> Iterator[None]:
    """Ignore stop signals inside the block."""
    with signal_handlers(signal.SIG_IGN, *STOP_SIGNALS):
        yield


def is_stop(error: BaseException | None) -> bool:
    """Return whether a stop signal raised this exception."""
    if isinstance(error, SystemExit):
        return error.code in {_STATUS_OF_SIGNAL + number for number in STOP_SIGNALS}
    return isinstance(error, KeyboardInterrupt)


def describe_stop(error: BaseException) -> str:
    """Return a phrase with the signal that raised this exception."""
    number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else int(str(error)) - _STATUS_OF_SIGNAL
    return f"stopped by {signal.Signals(number).name}"


def _wanted() -> list[int]:
    # `nohup` ignores SIGHUP, and a shell ignores Ctrl-C in a background process: that was wanted.
    return [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def _raise_first(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    if len(_received) == 1:
        raise _stop(number)


def _repeat() -> None:
    """Send the first signal again, from another thread: here, its exception would be lost as well."""
    number, main = _received[0], threading.main_thread().ident
    _received.clear()
    again = threading.Timer(_REPEAT_SECONDS, lambda: signal.pthread_kill(main or 0, number))
    again.daemon = True
    again.start()


def _stop(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(_STATUS_OF_SIGNAL + number)
