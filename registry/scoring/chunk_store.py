"""The finished chunks of a job, in a folder beside its output, so that a killed job goes on where it stopped.

A chunk is finished when its counts are there: they are written last. Everything is written under another name and
renamed, so that nothing is ever half there under its own.
"""

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from registry.scoring.job import rejects_file
from registry.scoring.rows_in import Reject
from trainer.core.errors import DataError, SettingsError
from trainer.core.run_folder import write_json

__all__ = ["Join", "Parts"]

Join = Callable[[Path, Sequence[Path]], None]

_JOB = "job.json"
_LOCK = "lock"


class Parts:
    """What a job has done so far. A context: inside, no other job writes the same output."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self.folder = output.with_name(f".{output.name}.parts")
        self.finished = self.rows = self.rejected = 0

    def __enter__(self) -> Self:
        with self._writing():
            self.folder.mkdir(exist_ok=True)
            self._lock = (self.folder / _LOCK).open("w")
        try:
            # A record lock ends with its process, however that ends.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise SettingsError(
                f"output must be written by one job at a time, but got output={str(self._output)!r}, which another one "
                "writes. Wait for it, or stop it."
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.folder.is_dir() and not (self.folder / _JOB).exists():  # stopped before it began
            shutil.rmtree(self.folder)
        self._lock.close()

    def begin(self, job: Mapping[str, Any]) -> list[str]:
        """Go on with the chunks of the same job, or start over; returns what differs from the job before, by name.

        job: what the output depends on, as JSON has it.
        """
        path = self.folder / _JOB
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        if before == job:
            self._count()
            return []
        with self._writing():
            path.unlink(missing_ok=True)  # first: without it, what is left of the others counts for nothing
            for file in self.folder.iterdir():
                if file.name != _LOCK:
                    file.unlink()
            write_json(path, job)
        return sorted(name for name in job if before is not None and before.get(name) != job[name])

    def add(self, write: Callable[[Path], None], rejects: Sequence[Reject], rows: int) -> None:
        """Keep the next chunk. write: writes its scored rows to a path. rows: how many it has, rejects included."""
        with self._writing():
            with _whole(self._file("part")) as path:
                write(path)
            with _whole(self._file("rejects")) as path:
                lines = [json.dumps(reject.facts(), ensure_ascii=False) + "\n" for reject in rejects]
                path.write_text("".join(lines), encoding="utf-8")
            write_json(self._file("json"), {"rows": rows, "rejected": len(rejects)})
        self._pass({"rows": rows, "rejected": len(rejects)})

    def publish(self, join: Join) -> None:
        """Make the output and its list of rejects from all chunks, and remove the folder.

        join: writes one file from several. Without a scored row there is no output, without a reject no list.
        """
        with self._writing():
            joined = self.folder / f"joined{self._output.suffix}"
            if self.rows > self.rejected:
                join(joined, [self._file("part", chunk) for chunk in range(self.finished)])
            self._publish_rejects()
            if self.rows > self.rejected:
                joined.replace(self._output)
            shutil.rmtree(self.folder)

    def _publish_rejects(self) -> None:
        if not self.rejected:
            rejects_file(self._output).unlink(missing_ok=True)
            return
        with _whole(self.folder / "rejects") as path, path.open("wb") as file:
            for chunk in range(self.finished):
                file.write(self._file("rejects", chunk).read_bytes())
        (self.folder / "rejects").replace(rejects_file(self._output))

    def _count(self) -> None:
        while (path := self._file("json")).is_file():
            self._pass(json.loads(path.read_text(encoding="utf-8")))

    def _pass(self, counts: Mapping[str, int]) -> None:
        self.finished += 1
        self.rows += counts["rows"]
        self.rejected += counts["rejected"]

    def _file(self, suffix: str, chunk: int | None = None) -> Path:
        return self.folder / f"{self.finished if chunk is None else chunk:06}.{suffix}"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"output must be in a folder that can be written, but got output={str(self._output)!r} ({error}). "
                "Make the folder or free some space; the same command then goes on with what is finished."
            ) from error


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` when all went well."""
    partial = path.with_name(f"{path.name}.partial")
    yield partial
    partial.replace(path)
