"""Files of lines that are only ever appended to."""

import os
from pathlib import Path

__all__ = ["drop_torn_line"]

_READ_BYTES = 1 << 20


def drop_torn_line(path: Path) -> None:
    """Cut off a last line without its newline: whoever wrote it died in the write, or the disk was full."""
    with path.open("rb+") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _READ_BYTES)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
