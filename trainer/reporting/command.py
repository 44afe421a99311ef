"""What all commands have in common: an error that the user can mend becomes one message and an exit status."""

import errno
import sys
from collections.abc import Callable, Sequence

from trainer.core.errors import EmotionsError
from trainer.reporting import console

__all__ = ["run_cli"]


def run_cli(command: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None) -> int:
    """Run a command with the words of its command line; None stands for those that this process was started with.

    Its own exit status, 0 for None; 1 after an error that the user can mend, which is shown; 130 after Ctrl-C.
    """
    try:
        return command(sys.argv[1:] if argv is None else list(argv)) or 0
    except EmotionsError as error:
        console.make().show_error(error)  # on any process: it may be the only one that knows
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        console.make().show_error(
            EmotionsError(f"disk must have room, but got {error}. Free some, and go on: what was kept is still there.")
        )
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell reports it; what was running has been closed by now
