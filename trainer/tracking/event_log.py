"""A write-ahead log of tracking calls: every event is on disk before it is sent to the tracking server.

`events.jsonl` is append-only, one event per line. `events.offset` contains the number of bytes that are settled; its
lock marks the process that writes the folder. `events.rejected.jsonl` contains refused events with their reasons.
"""

import contextlib
import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from trainer.core.child_process import STOP_SECONDS
from trainer.core.errors import TrackingError
from trainer.core.text_files import truncate_partial_line

__all__ = [
    "DAMAGED",
    "REJECTED",
    "Event",
    "EventLog",
    "find_event_logs",
    "has_event_log",
    "is_locked",
    "read_finished",
    "read_metrics",
    "wait_until_released",
]

REJECTED = "events.rejected.jsonl"
"""File of a run folder with the events that the server refused."""
DAMAGED = "damaged"
"""Kind of an event whose line cannot be parsed."""

_LOG = "events.jsonl"
_OFFSET = "events.offset"
_OLD_OFFSET = "spool.offset"
_OLD_NAMES = {"spool.jsonl": _LOG, _OLD_OFFSET: _OFFSET, "spool.refused.jsonl": REJECTED}
"""Names that earlier versions gave these files → the names of today."""
_LOG_NAMES = (_LOG, "spool.jsonl")
_BEGUN = (*_LOG_NAMES, _OFFSET)  # the offset file is made first
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_OFFSET_DIGITS = 20  # any 64-bit number, so that the file keeps its length
_READ_BYTES = 1 << 20
_TICK_SECONDS = 0.3


@dataclass(frozen=True)
class Event:
    """One tracking call of a run. `time`: ms since the epoch. `end`: byte offset after the event's line."""

    time: int
    run_id: str
    kind: str
    content: Mapping[str, object]
    end: int


class EventLog:
    """The event log of a run folder, locked by this process until `close`. Threads may append and read together.

    A last line without its newline is removed: the process died during the write.
    Raises TrackingError when another process has the lock, and when a file cannot be written or read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mutex = threading.Lock()
        with contextlib.ExitStack() as opened:  # a descriptor that stays open would keep the lock
            try:
                folder.mkdir(parents=True, exist_ok=True)
                # Not the log is locked: a record lock ends when the process closes any descriptor of the file, as
                # `truncate_partial_line` does.
                self._offset_file = os.open(_offset_path(folder), os.O_RDWR | os.O_CREAT, 0o644)
                opened.callback(os.close, self._offset_file)
                self._take_lock()  # before the truncation: another process may be writing its last line
                _rename_old_files(folder)
                self._log = os.open(folder / _LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
                opened.callback(os.close, self._log)
                truncate_partial_line(folder / _LOG)
                self._delivered = self._read_offset()
            except OSError as error:
                raise self._unwritable(error) from error
            self._descriptors = opened.pop_all()

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Bytes of complete events."""
        return os.fstat(self._log).st_size

    @property
    def delivered(self) -> int:
        """Bytes of settled events: the server has taken or refused them."""
        return self._delivered

    @property
    def has_rejected(self) -> bool:
        """Whether the server refused events that are not sent again yet."""
        return (self.folder / REJECTED).exists()

    def append(self, run_id: str, kind: str, content: Mapping[str, object]) -> None:
        """Write one event with the present time. Takes microseconds: one `write`, no `fsync`."""
        record = {"time": time.time_ns() // 1_000_000, "run_id": run_id, "kind": kind, "content": content}
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        with self._mutex:  # `_write` may truncate its own line, never one of another thread
            self._write(line)

    def events(self, start: int = 0) -> Iterator[Event]:
        """Iterate over the events from byte `start` on. A line that is no event comes as one of kind DAMAGED."""
        rest = b""
        while block := self._read(start + len(rest)):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                start += len(line) + 1
                yield _parse(line, start)

    def pending(self) -> Iterator[Event]:
        """Iterate over the events that are not settled."""
        return self.events(self._delivered)

    def mark_delivered(self, end: int) -> None:
        """Record that all events before byte `end` are settled. The file keeps its length, so a full disk is no bar."""
        os.pwrite(self._offset_file, f"{end:0{_OFFSET_DIGITS}d}\n".encode(), 0)
        self._delivered = end

    def reject(self, events: Sequence[Event], reason: str) -> None:
        """Keep events that the server refused in a file, with the reason."""
        with (self.folder / REJECTED).open("a", encoding="utf-8") as file:
            for event in events:
                record = {"run_id": event.run_id, "kind": event.kind, "reason": reason, "content": event.content}
                file.write(json.dumps(record) + "\n")

    def requeue_rejected(self) -> None:
        """Make all events pending again when some were rejected: sent in order, they leave the same run."""
        if self.has_rejected:
            self.mark_delivered(0)
            self.clear_rejected()

    def clear_rejected(self) -> None:
        """Forget which events the server refused."""
        (self.folder / REJECTED).unlink(missing_ok=True)

    def change_run(self, old: str, new: str) -> None:
        """Give the events of run `old` to run `new` and make them pending; those of other runs are removed.

        The log must be opened again afterwards.
        """
        aside = self.folder / f"{_LOG}.new"
        with aside.open("w", encoding="utf-8") as file:
            for event in self.events():
                if event.run_id == old:
                    record = {"time": event.time, "run_id": new, "kind": event.kind, "content": event.content}
                    file.write(json.dumps(record, separators=(",", ":")) + "\n")
        self.clear_rejected()
        self.mark_delivered(0)
        aside.replace(self.folder / _LOG)

    def close(self) -> None:
        """Close the files, which gives up the lock."""
        self._descriptors.close()

    def _take_lock(self) -> None:
        if not _lock(self._offset_file):
            raise TrackingError(f"Another process writes run folder {self.folder}. Wait until it ends, or stop it.")

    def _read_offset(self) -> int:
        text = os.pread(self._offset_file, _OFFSET_DIGITS, 0)
        if not text:
            self.mark_delivered(0)
            return 0
        offset = int(text) if text.isdigit() else -1
        if not 0 <= offset <= self.size:
            raise TrackingError(
                f"{self.folder / _OFFSET} must contain a byte offset of {_LOG}, got {text.decode(errors='replace')}. "
                f"Delete the file: all events are then sent again, which changes nothing on the server."
            )
        return offset

    def _read(self, start: int) -> bytes:
        try:
            return os.pread(self._log, _READ_BYTES, start)
        except OSError as error:
            raise TrackingError(f"Cannot read {self.folder / _LOG}: {error.strerror}.") from error

    def _write(self, line: bytes) -> None:
        before = self.size
        try:
            while line:  # a full disk takes a part; the next write raises the reason
                line = line[os.write(self._log, line) :]
        except OSError as error:
            os.ftruncate(self._log, before)  # else the next event would continue half a line
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> TrackingError:
        return TrackingError(
            f"Cannot write run folder {self.folder}: {error.strerror}. Free space or correct the permissions, "
            f"then continue with resume={self.folder.name}."
        )


def find_event_logs(folder: Path) -> list[Path]:
    """Return the run folders at or directly below `folder` that have an event log, oldest write first."""
    found = [path for path in (folder, *folder.glob("*/")) if has_event_log(path)]
    return sorted(found, key=_last_write)


def has_event_log(folder: Path) -> bool:
    """Return whether a run has begun in this folder; a process that is killed at once may leave it empty."""
    if any((folder / name).is_file() for name in _BEGUN):
        return True
    return bool(_RUN_ID.fullmatch(folder.name)) and folder.is_dir() and not any(folder.iterdir())


def _last_write(folder: Path) -> int:
    files = [folder / name for name in _LOG_NAMES if (folder / name).is_file()]
    return max(path.stat().st_mtime_ns for path in files or [folder])


def is_locked(folder: Path) -> bool:
    """Return whether another process writes the event log. The process that has the lock would lose it by this call."""
    try:
        with _offset_path(folder).open("r+b") as file:
            return not _lock(file.fileno())
    except FileNotFoundError:
        return False
    except PermissionError:  # another user's run, which this process cannot write either
        return True


def wait_until_released(folder: Path, check: Callable[[], None] = lambda: None) -> None:
    """Wait while the process of a killed command closes the run of this folder; it ends itself within a minute.

    check: called while waiting; may raise.
    """
    deadline = time.monotonic() + 2 * STOP_SECONDS
    while is_locked(folder) and time.monotonic() < deadline:
        check()
        time.sleep(_TICK_SECONDS)


def read_metrics(folder: Path, start: int) -> tuple[list[Mapping[str, float]], int]:
    """Return the metrics logged from byte `start` on, one mapping per call of the run, and the offset to continue at.

    Another process may write the log meanwhile; its unfinished last line is left for the next call.
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


def read_finished(folder: Path) -> list[Event]:
    """Return the events of a finished run; nothing without a log."""
    path = next((folder / name for name in _LOG_NAMES if (folder / name).is_file()), None)
    if path is None:
        return []
    lines = path.read_bytes().rpartition(b"\n")[0].split(b"\n")
    return [event for event in (_parse(line, 0) for line in lines) if event.kind != DAMAGED]


def _offset_path(folder: Path) -> Path:
    """Return the file whose lock marks the writer of a folder, by its name of today or of an earlier version."""
    old = folder / _OLD_OFFSET
    return old if old.exists() and not (folder / _OFFSET).exists() else folder / _OFFSET


def _rename_old_files(folder: Path) -> None:
    for old, new in _OLD_NAMES.items():
        if (folder / old).exists() and not (folder / new).exists():
            (folder / old).rename(folder / new)


def _lock(descriptor: int) -> bool:
    """Lock an open offset file until this process closes one of its descriptors; False when another process has it.

    A record lock: unlike flock, forked data-loading workers that outlive a killed parent do not inherit it.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX allows EAGAIN and EACCES for a lock that is taken
        return False
    return True


def _parse(line: bytes, end: int) -> Event:
    try:
        record = json.loads(line)
        return Event(int(record["time"]), str(record["run_id"]), str(record["kind"]), dict(record["content"]), end)
    except (ValueError, KeyError, TypeError, RecursionError):  # RecursionError: thousands of brackets
        return Event(0, "", DAMAGED, {"line": line.decode(errors="replace")}, end)
