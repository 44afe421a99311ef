"""One training of a search: its command line, its run, what it says while it runs and what it leaves."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.core import artifacts
from trainer.core.run_folder import diff_settings, read_config
from trainer.tracking.event_log import is_locked, read_metrics
from tuning.execution import process
from tuning.execution.process import Share

__all__ = ["Order", "Training", "Turn", "as_words"]

_ERROR = "error: "
_SHOWN_CHARACTERS = 500
_BUSY_SECONDS = 60.0


@dataclass(frozen=True)
class Order:
    """What is to be trained: a command line of `train` and settings that differ from it, in the run of this folder."""

    words: tuple[str, ...]
    changes: Mapping[str, Any]
    folder: Path

    @property
    def outcome(self) -> dict[str, float] | None:
        """The scores of a training that has ended well; None before that."""
        path = self.folder / artifacts.OUTCOME
        if not path.is_file():
            return None
        scores: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return scores

    def misuse(self) -> str:
        """Where the training that has ended here used other settings than it was given, in words; else empty."""
        found = diff_settings(read_config(self.folder), self.changes, {})
        return "; ".join(f"{name}: {given!r} given, {used!r} used" for name, (used, given) in found.items())


@dataclass
class Turn:
    """When an order may be begun: a training of before may still have its folder.

    Its driver was killed; it notices that and closes its run. After a minute the order is begun all the same.
    """

    order: Order
    _until: float = field(default_factory=lambda: time.monotonic() + _BUSY_SECONDS)

    @property
    def has_come(self) -> bool:
        """Whether nobody has the folder any more, or for too long."""
        return not is_locked(self.order.folder) or time.monotonic() >= self._until


class Training:
    """A training as a child process, begun or continued in the run whose folder is given."""

    def __init__(self, order: Order, share: Share) -> None:
        self.order = order
        order.folder.mkdir(parents=True, exist_ok=True)
        words = [*order.words, *as_words(order.changes)]
        variables = {}
        config = order.folder / artifacts.CONFIG
        if config.is_file():
            # The same rows may be spelled otherwise by now: it goes on as it began.
            dataset = json.loads(config.read_text(encoding="utf-8"))["dataset"]
            pairs = dict(zip(words[::2], words[1::2], strict=True))
            pairs |= {"--dataset": dataset, "--resume": order.folder.name}
            words = [word for pair in pairs.items() for word in pair]
        else:
            variables["MLFLOW_RUN_ID"] = order.folder.name
        self._began = time.monotonic()
        self._offset = 0
        self._epoch = 0.0
        log = order.folder / artifacts.TRIAL_LOG
        self._log_began = log.stat().st_size if log.exists() else 0
        self._child = process.start(words, share, log, variables)

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._began

    @property
    def status(self) -> int | None:
        """Exit status once it has ended."""
        return self._child.status

    def scores(self, name: str) -> list[tuple[float, float]]:
        """Epoch and value of metric `name` at each evaluation since the last call."""
        groups, self._offset = read_metrics(self.order.folder, self._offset)
        found = []
        for group in groups:
            self._epoch = group.get(artifacts.TRAIN_EPOCH, self._epoch)
            if name in group:
                found.append((self._epoch, group[name]))
        return found

    def ask_to_stop(self) -> None:
        """Ask it to end, without waiting."""
        self._child.ask_to_stop()

    def wait(self, seconds: float | None = None) -> None:
        """Wait for its end, at most so long."""
        self._child.wait(seconds)

    def clean_up(self) -> None:
        """End it and whatever it started, at once."""
        self._child.kill()

    def cause(self) -> str:
        """Why it failed: the error it has printed last, else its last line."""
        path = self.order.folder / artifacts.TRIAL_LOG
        said = path.read_bytes()[self._log_began :] if path.is_file() else b""  # before that stands an earlier life
        lines = said.decode("utf-8", errors="replace").splitlines()
        starts = [place for place, line in enumerate(lines) if line.startswith(_ERROR)]
        if starts:
            block = [lines[starts[-1]].removeprefix(_ERROR)]
            for line in lines[starts[-1] + 1 :]:
                if not line.startswith(" " * len(_ERROR)):
                    break
                block.append(line.strip())
            return " ".join(block)[:_SHOWN_CHARACTERS]
        words = [line.strip() for line in lines if line.strip()]
        return f"exit status {self.status}: {words[-1] if words else 'no output'}"[:_SHOWN_CHARACTERS]


def as_words(changes: Mapping[str, Any]) -> Sequence[str]:
    """Settings as the words of a command line, which training reads back to the same values."""
    words = []
    for name, value in changes.items():
        words += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return words
