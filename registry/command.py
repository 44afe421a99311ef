"""What the commands of the registry have in common: a command line in, an exit status out."""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from trainer.core import console, settings
from trainer.core.errors import EmotionsError

__all__ = ["run"]

_Config = TypeVar("_Config")


def run(command: Callable[[_Config], None], config_class: type[_Config], argv: Sequence[str] | None) -> int:
    """Exit status of a command with the settings of its command line: 0, or 1 on an error that the user can mend."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        command(settings.parse(config_class, words))
    except EmotionsError as error:
        console.make().show_error(error)
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell reports Ctrl-C
    return 0
