"""Tracebacks of unexpected errors, which go to a file: the terminal shows one line."""

import os
import tempfile
import traceback
from pathlib import Path

from trainer.core.redaction import redact

__all__ = ["DEBUG_VARIABLE", "TRACEBACK", "is_debugging", "keep_traceback"]

DEBUG_VARIABLE = "EMOTIONS_DEBUG"
"""Set by debug=true: a variable, because the processes of a run and the trials of a search inherit it."""
TRACEBACK = "traceback.txt"
"""File of a run folder."""
_PATH = "traceback_file"
"""Attribute of an exception whose traceback is written."""


def is_debugging() -> bool:
    """Return whether tracebacks are printed."""
    return bool(os.environ.get(DEBUG_VARIABLE))


def keep_traceback(error: BaseException, folder: Path | None = None) -> Path | None:
    """Write the traceback of `error` once, into `folder` or a temporary file; return the path, None on a full disk."""
    path: Path | None = getattr(error, _PATH, None)
    if path is None:
        text = redact("".join(traceback.format_exception(error)))
        try:
            path = Path(tempfile.mkstemp(".txt", "emotions-error-")[1]) if folder is None else folder / TRACEBACK
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError:  # the error itself may be a full disk
            return None
        setattr(error, _PATH, path)
    return path
