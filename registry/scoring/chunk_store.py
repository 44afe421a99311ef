"""Stores the scored chunks of a job in a folder next to its output, so that a killed job continues where it stopped.

The counts of a chunk are written last and mark it as complete.
"""

import fcntl
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from registry.scoring.job import PUBLISHED, is_published, parts_folder, read_kept, rejects_file
from registry.scoring.rows import Reject
from trainer.core.errors import DataError, SettingsError, shorten
from trainer.core.text_files import write_json

__all__ = ["ChunkStore", "Join", "concatenate"]

Join = Callable[[Path, Sequence[Path]], None]

_JOB = "job.json"
_LOCK = "lock"


class ChunkStore:
    """The complete chunks of a job. As a context, it locks the output against other jobs."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self.folder = parts_folder(output)
        self.chunks = self.rows = self.rejected = 0

    def __enter__(self) -> Self:
        with self._writing():
            self.folder.mkdir(exist_ok=True)
            self._lock = (self.folder / _LOCK).open("w")
        try:
            # The operating system releases this lock when the process ends in any way.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # EACCES or EAGAIN: the platforms differ
            self._lock.close()
            raise SettingsError(
                f"Another job is writing `output` {shorten(self._output)}. Wait until it ends, or stop it."
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.folder.is_dir() and not (self.folder / _JOB).exists():  # stopped before the first chunk
            shutil.rmtree(self.folder)
        self._lock.close()

    def has(self, job: Mapping[str, Any]) -> bool:
        """Return whether the folder is that of this job."""
        return bool(self._earlier_job() == job)

    def open_job(self, job: Mapping[str, Any]) -> list[str]:
        """Keep the chunks of the same job, or start over; returns the names of what differs from the earlier job.

        job: what the output depends on, as JSON.
        """
        path, earlier = self.folder / _JOB, self._earlier_job()
        if earlier == job:
            self._count()
            return []
        with self._writing():
            path.unlink(missing_ok=True)  # first: without it, the chunks count for nothing
            for file in self.folder.iterdir():
                if file.name != _LOCK:
                    file.unlink()
            write_json(path, job)
        return sorted(name for name in job if earlier is not None and earlier.get(name) != job[name])

    def add(self, write: Callable[[Path], None], rejects: Sequence[Reject], rows: int) -> None:
        """Store the next chunk. write: writes its scored rows to a path. rows: their number, rejects included."""
        counts = {"rows": rows, "rejected": len(rejects)}
        part = self._file("part")
        with self._writing():
            write(part)
            lines = "".join(f"{reject.to_json()}\n" for reject in rejects)
            self._file("rejects").write_text(lines, encoding="utf-8")
            write_json(self._file("json"), counts)
        self._add_counts(counts)

    def publish(self, join: Join) -> None:
        """Write the output and the list of rejects from all chunks, and remove the folder.

        join: writes one file from several. Without a scored row there is no output, without a reject no list.
        """
        with self._writing():
            if not is_published(self._output):
                self._write_output(join)
            kept = (PUBLISHED, _JOB, _LOCK)  # until all chunks are gone, the same command finds its job finished
            for file in self.folder.iterdir():
                if file.name not in kept:
                    file.unlink()
            shutil.rmtree(self.folder)

    def _write_output(self, join: Join) -> None:
        joined = self.folder / f"joined{self._output.suffix}"
        rejects_file(self._output).unlink(missing_ok=True)  # of an earlier job with this output
        if self.rejected:  # before the output: where that exists, the list of its rejects does too
            _empty(joined)
            concatenate(self._files("rejects"), joined)
            joined.replace(rejects_file(self._output))
        if self.rows > self.rejected:
            _empty(joined)
            join(joined, self._files("part"))
            stat = joined.stat()
            counts = {"chunks": self.chunks, "rows": self.rows, "rejected": self.rejected}
            write_json(self.folder / PUBLISHED, {"size": stat.st_size, "time": stat.st_mtime_ns, **counts})
            joined.replace(self._output)  # renamed: no reader sees a part of the output

    def _earlier_job(self) -> Any:
        path = self.folder / _JOB
        return read_kept(path) if path.is_file() else None

    def _count(self) -> None:
        if is_published(self._output):  # some of the chunks may be removed
            kept = read_kept(self.folder / PUBLISHED)
            self.chunks, self.rows, self.rejected = kept["chunks"], kept["rows"], kept["rejected"]
            return
        while (path := self._file("json")).is_file():
            self._add_counts(read_kept(path))

    def _add_counts(self, counts: Mapping[str, int]) -> None:
        self.chunks += 1
        self.rows += counts["rows"]
        self.rejected += counts["rejected"]

    def _file(self, suffix: str) -> Path:
        """Return the file of the next chunk."""
        return self.folder / f"{self.chunks:06}.{suffix}"

    def _files(self, suffix: str) -> list[Path]:
        return [self.folder / f"{chunk:06}.{suffix}" for chunk in range(self.chunks)]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"Cannot write in the folder of `output` {shorten(self._output)} ({error.strerror or error}). Make the "
                "folder writable or free some space, then run the same command again: it continues after the stored "
                "chunks."
            ) from error


def concatenate(parts: Sequence[Path], target: Path) -> None:
    """Append the parts to `target`."""
    with target.open("ab") as file:  # appends: the header of a CSV file is already there
        for part in parts:
            with part.open("rb") as content:
                shutil.copyfileobj(content, file)


def _empty(path: Path) -> None:
    path.write_bytes(b"")  # a command that was killed here has left the beginning of it
