"""The frame of every command: an error that the user can fix becomes one message and an exit status."""

import errno
import sys
from collections.abc import Callable, Sequence

from trainer.core.errors import EmotionsError
from trainer.reporting import console

__all__ = ["run_cli"]


def run_cli(
    command: Callable[[Sequence[str]], int | None],
    argv: Sequence[str] | None,
    on_error: Callable[[EmotionsError], None] = lambda _: None,
) -> int:
    """Run a command with argv, by default that of this process, and return its exit status, 0 for None.

    1 after an error that the user can fix, which is printed and passed to `on_error`; 130 after Ctrl-C.
    """
    try:
        return command(sys.argv[1:] if argv is None else list(argv)) or 0
    except EmotionsError as error:
        console.make().show_error(error)  # on any process: the others may not have met it
        on_error(error)
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC:  # any other is a defect and keeps its traceback
            raise
        text = f"No space left on the device ({error}). Free some and run the same command again; nothing is lost."
        console.make().show_error(EmotionsError(text))
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell reports it
