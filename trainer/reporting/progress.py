"""Progress of a long task: a live bar of rich on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

__all__ = ["LineProgress", "LiveProgress", "Progress"]

_SECONDS_BETWEEN_LINES = 30.0
_LINES_PER_RUN = 10
_SECONDS_OF_SPEED = 600.0  # rich's 30 s have no two updates where ten steps take longer, and then no ETA
_FORMATS = {
    "train/loss": "loss {:.3f}",
    "train/learning_rate": "lr {:.1e}",
    "train/samples_per_second": "{:,.0f} samples/s",
    "rows_per_second": "{:,.0f} rows/s",
    "running": "{:.0f} running",
    "pruned": "{:.0f} pruned",
    "failed": "{:.0f} failed",
    "best": "best {:.4f}",
}


class Progress:
    """A context that takes the number of finished units. This one prints nothing."""

    def update(self, step: int, numbers: Mapping[str, float]) -> None:
        """Show that `step` units are finished, optimizer steps in training, and those of the numbers in _FORMATS."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class LineProgress(Progress):
    """Writes a line at each tenth of the task, and when thirty seconds passed without one."""

    def __init__(
        self,
        write: Callable[[str], None],
        total: int,
        start: int,
        clock: Callable[[], float] = time.monotonic,
        unit: str = "step",
    ) -> None:
        self._write, self._total, self._start, self._clock, self._unit = write, total, start, clock, unit
        self._began = self._last = clock()
        self._tenth = self._tenths(start)

    def update(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write a line if one is due."""
        now, tenth = self._clock(), self._tenths(step)
        if tenth <= self._tenth and now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._tenth, self._last = tenth, now
        parts = [f"{self._unit} {step:,}/{self._total:,} ({100 * step // max(self._total, 1)} %)", *_shown(numbers)]
        if self._start < step < self._total:
            # Steps from before a resume took none of this time.
            seconds = (now - self._began) / (step - self._start) * (self._total - step)
            parts.append(f"ETA {_duration(seconds)}")
        self._write("  ".join(parts))

    def _tenths(self, step: int) -> int:
        return step * _LINES_PER_RUN // max(self._total, 1)


class LiveProgress(Progress):
    """Draws a bar that fits 80 columns; the same console prints its lines above it."""

    def __init__(
        self, console: rich.console.Console, total: int, start: int, on_end: Callable[[], None], unit: str = "step"
    ) -> None:
        counted = [MofNCompleteColumn(), *([] if unit == "step" else [TextColumn(unit)])]
        numbers = TextColumn("{task.fields[numbers]}", markup=False)
        columns = (BarColumn(10), *counted, numbers, TextColumn("ETA"), TimeRemainingColumn())
        self._bar = Bar(*columns, console=console, speed_estimate_period=_SECONDS_OF_SPEED)
        self._task = self._bar.add_task("", total=total, completed=start, numbers="")
        self._on_end = on_end

    def update(self, step: int, numbers: Mapping[str, float]) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=step, numbers=" ".join(_shown(numbers)))

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._on_end()


def _shown(numbers: Mapping[str, float]) -> list[str]:
    return [text.format(numbers[name]) for name, text in _FORMATS.items() if name in numbers]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
