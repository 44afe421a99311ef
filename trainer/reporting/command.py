"""The frame of every command: errors become one message and an exit status, signals an end in order."""

import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from trainer.core import signals
from trainer.core.errors import EmotionsError, SettingsError, shorten
from trainer.core.parent import end_with_mlflow_run
from trainer.core.redaction import redact, redact_logs
from trainer.core.scratch import remove_abandoned
from trainer.core.tracebacks import DEBUG_VARIABLE, is_debugging, keep_traceback
from trainer.reporting import console
from trainer.reporting.streams import survive_lost_output

__all__ = ["run_cli"]

_DEBUG_FLAG = "--debug"
_DEBUG_HELP = f"\n{_DEBUG_FLAG} {{true,false}}  Print the traceback of an error; every command has it."
_CTRL_C_STATUS = 130
_MAX_SHOWN_CHARACTERS = 200


def run_cli(
    command: Callable[[Sequence[str]], int | None],
    argv: Sequence[str] | None,
    on_error: Callable[[BaseException], None] = lambda _: None,
) -> int:
    """Run a command with argv, by default that of this process, and return its exit status, 0 for None.

    1 after an error, which is printed as one message and passed to `on_error`; 128 + n after stop signal n, which is
    passed too. The traceback of an unexpected error goes to a file; with `--debug true` all are printed.
    """
    survive_lost_output()
    redact_logs()
    with signals.raise_stops():
        try:
            end_with_mlflow_run()
            remove_abandoned()
            return command(_without_debug(sys.argv[1:] if argv is None else list(argv))) or 0
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            if isinstance(error, SystemExit) and not signals.is_stop(error):  # of `--help`
                if not error.code:
                    print(_DEBUG_HELP)
                raise
            with signals.ignore_stops():
                if is_debugging():
                    print(redact("".join(traceback.format_exception(error))), file=sys.stderr)
                if isinstance(error, Exception):
                    console.make().show_error(_readable(error))  # on any process: the others may not have met it
                on_error(error)
            return _status(error)


def _without_debug(words: list[str]) -> list[str]:
    """Return the words of a command line without `--debug`, which every command has, after obeying it."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name != _DEBUG_FLAG:
            kept.append(word)
            continue
        value = value if equals else next(rest, "")
        if value.lower() not in ("true", "false"):
            raise SettingsError(f"`debug` must be true or false, got {value or 'an empty value'}.")
        os.environ[DEBUG_VARIABLE] = "true" if value.lower() == "true" else ""
    return kept


def _readable(error: Exception) -> EmotionsError:
    """Return the error with the text that the user reads."""
    if isinstance(error, EmotionsError):
        return error
    if (cause := _lack_of_space(error)) is not None:
        shown = shorten(redact(str(cause)), _MAX_SHOWN_CHARACTERS)
        return EmotionsError(
            f"No space left on the device ({shown}). Free some and run the same command again; nothing is lost."
        )
    path = keep_traceback(error)
    text = " ".join(redact(f"{type(error).__name__}: {error}").split())
    where = f"The traceback is in {path}. Send it with a report of this defect" if path else "Free disk space"
    return EmotionsError(f"Unexpected error ({text[:_MAX_SHOWN_CHARACTERS]}). {where}, or set debug=true to print it.")


def _lack_of_space(error: BaseException | None) -> BaseException | None:
    """Return the error of a full disk behind an error; None for one with other causes."""
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return error
        # shutil, and the Rust code of tokenizers and safetensors, keep the text alone.
        if os.strerror(errno.ENOSPC) in str(error):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        error = error.__cause__ or error.__context__
    return None


def _status(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return _CTRL_C_STATUS
    return int(str(error.code)) if isinstance(error, SystemExit) else 1
