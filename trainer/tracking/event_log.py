"""The operations of one run, in order, on disk before anything is sent: nothing is lost when the server or we die.

`spool.jsonl` is append-only, one operation per line. `spool.offset` holds the byte up to which the server has
everything; its lock says that a process owns the spool. `spool.refused.jsonl` holds what the server will never take.
"""

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from trainer.core.errors import TrackingError
from trainer.core.text_files import truncate_partial_line

__all__ = ["Entry", "EventLog", "find_spools", "has_spool", "is_owned", "read_metrics"]

_LOG = "spool.jsonl"
_OFFSET = "spool.offset"
_REFUSED = "spool.refused.jsonl"
_OFFSET_DIGITS = 20
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One operation on a run. `time`: when it was made, ms since the epoch. `end`: byte offset after its line."""

    id: int
    time: int
    run_id: str
    kind: str
    content: Mapping[str, object]
    end: int


class EventLog:
    """The spool of one run folder, owned by this process until `close`. Threads may append and read at once.

    Raises TrackingError when another process owns it, when it cannot be written, or when a line is damaged.
    A last line without its newline (the process died in the write) is dropped: its operation never counted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mutex = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._offset_file = os.open(folder / _OFFSET, os.O_RDWR | os.O_CREAT, 0o644)
            self._own()
            self._log = os.open(folder / _LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            truncate_partial_line(folder / _LOG)
            self._delivered = self._read_offset()
        except OSError as error:
            raise self._unwritable(error) from error
        self._next_id = sum(1 for _ in self.entries())

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Bytes of complete operations."""
        return os.fstat(self._log).st_size

    @property
    def delivered(self) -> int:
        """Bytes of operations that the server has, or has refused for good."""
        return self._delivered

    def append(self, run_id: str, kind: str, content: Mapping[str, object]) -> None:
        """Write one operation, stamped with the present time. Costs microseconds: one `write`, no `fsync`."""
        with self._mutex:
            record = {"id": self._next_id, "time": time.time_ns() // 1_000_000, "run_id": run_id, "kind": kind}
            line = json.dumps({**record, "content": content}, separators=(",", ":")).encode() + b"\n"
            self._write(line)
            self._next_id += 1

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """Operations from byte `start` on, up to the end as it is when the reading gets there."""
        rest = b""
        while block := os.pread(self._log, _READ_BYTES, start + len(rest)):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                start += len(line) + 1
                yield self._parse(line, start)

    def pending(self) -> Iterator[Entry]:
        """Operations that are not delivered yet."""
        return self.entries(self._delivered)

    def mark_delivered(self, end: int) -> None:
        """Record that everything before byte `end` is settled. The file keeps its length, so a full disk is no bar."""
        os.pwrite(self._offset_file, f"{end:0{_OFFSET_DIGITS}d}\n".encode(), 0)
        self._delivered = end

    def refuse(self, entry: Entry, reason: str) -> None:
        """Put aside an operation that the server will never accept, with its reason."""
        record = {
            "id": entry.id,
            "run_id": entry.run_id,
            "kind": entry.kind,
            "reason": reason,
            "content": entry.content,
        }
        with (self.folder / _REFUSED).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def close(self) -> None:
        """Give the spool up; another process may own it now."""
        os.close(self._log)
        os.close(self._offset_file)

    def _own(self) -> None:
        if not _lock(self._offset_file):
            os.close(self._offset_file)
            raise TrackingError(
                f"run folder must belong to one process, but got folder={str(self.folder)!r}, which another one is "
                f"writing. Wait for it to end, or stop it."
            )

    def _read_offset(self) -> int:
        text = os.pread(self._offset_file, _OFFSET_DIGITS, 0)
        if not text:
            self.mark_delivered(0)
            return 0
        offset = int(text) if text.isdigit() else -1
        if not 0 <= offset <= self.size:
            raise TrackingError(
                f"{self.folder / _OFFSET} must hold a byte offset of {_LOG}, but got {text=}. "
                f"Delete it to deliver everything again: what the server already has does it no harm."
            )
        return offset

    def _write(self, line: bytes) -> None:
        before = self.size
        try:
            # A disk that fills up takes a part; asking again for the rest names the reason.
            while line:
                line = line[os.write(self._log, line) :]
        except OSError as error:
            os.ftruncate(self._log, before)
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> TrackingError:
        return TrackingError(
            f"run folder must be writable, but got folder={str(self.folder)!r}: {error.strerror}. "
            f"Free space or mend its permissions, then continue with resume={self.folder.name}."
        )

    def _parse(self, line: bytes, end: int) -> Entry:
        try:
            record = json.loads(line)
            return Entry(record["id"], record["time"], record["run_id"], record["kind"], record["content"], end)
        except (ValueError, KeyError, TypeError) as error:
            raise TrackingError(
                f"{self.folder / _LOG} must hold one operation per line, but got line={line[:80]!r} before byte {end}. "
                f"Remove that line and delete {_OFFSET}; the rest can then be delivered."
            ) from error


def find_spools(folder: Path) -> list[Path]:
    """Run folders at or directly below `folder` that hold a spool, oldest write first."""
    logs = [*folder.glob(_LOG), *folder.glob(f"*/{_LOG}")]
    return [log.parent for log in sorted(logs, key=lambda log: log.stat().st_mtime_ns)]


def has_spool(folder: Path) -> bool:
    """Whether a run has begun to record in this folder."""
    return (folder / _LOG).is_file()


def is_owned(folder: Path) -> bool:
    """Whether another process owns the spool of this folder. Not for the process that owns it: it would give it up."""
    try:
        with (folder / _OFFSET).open("r+b") as file:
            return not _lock(file.fileno())
    except FileNotFoundError:
        return False
    except PermissionError:
        return True


def _lock(descriptor: int) -> bool:
    """Take the lock of an open offset file, until any of its descriptors is closed; False when another process has it.

    A record lock: unlike flock it is not inherited by forked data-loading workers that outlive a killed parent.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def read_metrics(folder: Path, start: int) -> tuple[list[Mapping[str, float]], int]:
    """The metrics that a run, which another process may own, has recorded from byte `start` on, and where to go on.

    Each group was recorded at one step. A line that is still being written is left for the next time.
    """
    try:
        with (folder / _LOG).open("rb") as file:
            file.seek(start)
            whole, newline, _ = file.read().rpartition(b"\n")
    except FileNotFoundError:
        return [], start
    records = [json.loads(line) for line in whole.split(b"\n")] if newline else []
    groups = [record["content"]["metrics"] for record in records if record["kind"] == "metrics"]
    return groups, start + len(whole) + len(newline)
