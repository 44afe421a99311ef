"""What the benchmarks share: alternating repetitions, child processes, tables of results."""

import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from textwrap import wrap

from trainer.core.signals import raise_system_exit, signal_handlers

__all__ = ["COLUMNS", "ROOT", "Row", "Table", "alternate", "contend", "peak_resident_mib", "run_python"]

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ("measure", "reference", "ours", "ratio", "min-max", "aim")
_FOREIGN = (
    *("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_REGISTRY_URI"),
    "OPTUNA_STORAGE",
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure by repetition, ours and, where there is one, the reference's in the same repetition.

    at_least and below are aims: bounds on the median of the ratio, or of ours where there is no reference.
    Infinity stands for what was not reached, so a median is one only when most repetitions have reached it.
    """

    measure: str
    ours: list[float]
    reference: list[float] | None = None
    more_is_better: bool = False
    at_least: float | None = None
    below: float | None = None

    @property
    def ratios(self) -> list[float] | None:
        """How many times better ours is, by repetition; below 1 it is worse. None without a reference."""
        if self.reference is None:
            return None
        pairs = zip(self.ours, self.reference, strict=True)
        return [ours / other if self.more_is_better else other / ours for ours, other in pairs]

    def cells(self) -> tuple[str, ...]:
        """Texts under COLUMNS: medians, and the range of the ratio, or of ours without a reference."""
        judged = self.ratios or self.ours
        middle = [_number(median(values)) if values else "-" for values in (self.reference, self.ours, self.ratios)]
        return (
            self.measure,
            *middle,
            f"{_number(min(judged))} to {_number(max(judged))}",
            self._verdict(median(judged)),
        )

    def _verdict(self, value: float) -> str:
        if self.at_least is not None:
            return f"at least {self.at_least:g}: aim {'met' if value >= self.at_least else 'missed'}"
        return "-" if self.below is None else f"below {self.below:.3g}: aim {'met' if value < self.below else 'missed'}"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of one benchmark and what a reader must know about them; a skipped benchmark has a note alone."""

    title: str
    rows: tuple[Row, ...] = ()
    note: str = ""

    def text(self) -> str:
        """The table as plain text."""
        cells = [COLUMNS, *(row.cells() for row in self.rows)] if self.rows else []
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in cells]
        return "\n".join([self.title, *(f"  {line}".rstrip() for line in [*lines, *wrap(self.note, 110)])])

    def facts(self) -> dict[str, object]:
        """The table for JSON, with the figures of every repetition."""
        rows = [{**vars(row), "ours": [_reached(one) for one in row.ours], "ratios": row.ratios} for row in self.rows]
        rows = [{**facts, "aim": row.cells()[-1]} for facts, row in zip(rows, self.rows, strict=True)]
        return {"title": self.title, "rows": rows, "note": self.note}


def alternate(contenders, repetitions):
    """Results by contender and repetition. The order turns round each time, so that a drift hits all alike."""
    results = {name: [] for name in contenders}
    for repetition in range(repetitions):
        for name in list(contenders)[:: -1 if repetition % 2 else 1]:
            print(f"{name}, repetition {repetition + 1} of {repetitions}", file=sys.stderr)
            results[name].append(contenders[name]())
    return results


def contend(contender, **settings):
    """What one of `contenders.CONTENDERS` measured of itself, in a process and with a run folder of its own."""
    with tempfile.TemporaryDirectory(prefix="emotions-bench-") as folder:
        result = Path(folder) / "result.json"
        flags = [word for name, value in {**settings, "output": folder}.items() for word in (f"--{name}", str(value))]
        run_python(["-m", "tests.benchmarks.contenders", contender, str(result), *flags], folder)
        return json.loads(result.read_text(encoding="utf-8"))


def run_python(words, folder):
    """Seconds of a Python process of this project in `folder`, with a tracking store there and no network."""
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "HF_HUB_OFFLINE": "1"}
    environment = {"CUDA_VISIBLE_DEVICES": "0", "TOKENIZERS_PARALLELISM": "false"} | kept | own
    command, started = [sys.executable, *words], time.perf_counter()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    done = subprocess.Popen(command, cwd=folder, env=environment, **pipes)
    with signal_handlers(raise_system_exit, signal.SIGTERM), done:
        try:
            _, errors = done.communicate()
        except BaseException:  # it may have to close something first: a search writes down what its trainings took
            done.terminate()
            done.wait()
            raise
    if done.returncode:
        raise RuntimeError(f"{words} must end well, but got {done.returncode=}: {errors[-3000:]}")
    return time.perf_counter() - started


def peak_resident_mib():
    """Most resident memory of this process so far.

    Linux lets a process inherit the peak of getrusage from the one that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def _reached(value):
    """The number for JSON, which has no infinity."""
    return None if math.isinf(value) else value


def _number(value):
    if math.isinf(value):
        return "not reached"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
