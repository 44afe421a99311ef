"""Commands of the project in processes of their own, which can be killed, signalled and searched for.

Most are forked from a process that has loaded the libraries, and run `python -m MODULE` there: the same code without
seconds of imports. Where the start itself is attacked, or the process list is read, a real `python -m` is started.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.moments import Moment, WriteCounter

__all__ = ["HANG_SECONDS", "ROOT", "Ended", "Running", "call", "find_marked", "start", "start_real"]

ROOT = Path(__file__).resolve().parents[2]
HANG_SECONDS = 300.0
"""A command that runs longer hangs. No promise on speed: the machine may be busy."""
MARK = "CHAOS_ATTEMPT"
"""Environment variable with the folder of the attempt: finds every process that a command has left."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        *("registry.promotion.session", "registry.scoring.scorer", "registry.scoring.readers", "trainer.pipeline"),
        *("registry.scoring.writers", "trainer.tracking.run", "transformers.models.bert.modeling_bert"),
        *("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
        *("mlflow.pyfunc", "matplotlib.figure", "matplotlib.backends.backend_agg", "scipy.optimize"),
    ]
)
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": "1",  # sums keep their order
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONPATH": str(ROOT),
    "COLUMNS": "100",
}
_INHERITED = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "HF_HOME")


@dataclass(frozen=True)
class Ended:
    """How a command ended. status: negative for a signal; None when it hung and was killed by us."""

    status: int | None
    text: str
    seconds: float
    writes: int


@dataclass
class Running:
    """A started command. Its terminal output goes to `console`."""

    pid: int
    console: Path
    _wait: Callable[[float], int | None]
    _counts: Path | None = None
    _began: float = field(default_factory=time.monotonic)

    def wait(self, seconds: float = HANG_SECONDS) -> Ended:
        """Return how the command ended; after `seconds` it is killed."""
        status = self._wait(seconds)
        if status is None:
            self.kill()
            self._wait(10)
        writes = int(self._counts.read_text() or 0) if self._counts and self._counts.is_file() else 0
        text = self.console.read_text(encoding="utf-8", errors="replace") if self.console.exists() else ""
        return Ended(status, text, time.monotonic() - self._began, writes)

    def is_alive(self) -> bool:
        """Return whether it runs."""
        return self._wait(0) is None

    def has_handlers(self) -> bool:
        """Return whether the command handles SIGTERM by now; Python alone does not."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except FileNotFoundError:
            return False
        caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process alone, as `kill` does."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of the commands of an attempt: a database and a temporary folder in its folder."""
    (folder / "tmp").mkdir(exist_ok=True)
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    own = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "TMPDIR": str(folder / "tmp"), MARK: str(folder)}
    return {**inherited, **_ENVIRONMENT, **own, **more}


def start(
    folder: Path,
    module: str,
    argv: Sequence[object],
    *,
    variables: Mapping[str, str] | None = None,
    moment: Moment | None = None,
    prepare: Callable[[], None] | None = None,
) -> Running:
    """Start `python -m module argv` in a forked process.

    moment: of an attack inside the process. prepare: called in it before the command.
    """
    words = [str(word) for word in argv]
    console, counts = _new_file(folder, "console"), _new_file(folder, "writes")
    given = _Start(folder, console, counts, environment(folder, **(variables or {})), module, words, moment, prepare)
    process = _CONTEXT.Process(target=_run, args=(given,))
    process.start()

    def wait(seconds: float) -> int | None:
        process.join(seconds)
        return process.exitcode

    assert process.pid is not None
    return Running(process.pid, console, wait, counts)


def start_real(
    folder: Path, words: Sequence[object], *, variables: Mapping[str, str] | None = None, stdout: Any = None
) -> Running:
    """Start a program, such as `python -m trainer.train`, in a session of its own."""
    console = _new_file(folder, "console")
    with console.open("wb") as file:
        process = subprocess.Popen(
            [str(word) for word in words],
            cwd=folder,
            env=environment(folder, **(variables or {})),
            stdin=subprocess.DEVNULL,
            stdout=stdout or file,
            stderr=file,
            start_new_session=True,
        )

    def wait(seconds: float) -> int | None:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    return Running(process.pid, console, wait)


def call(folder: Path, function: Callable[..., Any], *arguments: Any, seconds: float = HANG_SECONDS) -> Any:
    """Return what a function returns in a forked process; raise RuntimeError when it does not return."""
    console = _new_file(folder, "call")
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_call, args=(folder, console, environment(folder), sender, function, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            process.kill()
            raise RuntimeError(f"{function.__name__} hangs: {console.read_text()[-2000:]}")
        return receiver.recv()
    except EOFError:
        raise RuntimeError(f"{function.__name__} failed: {console.read_text()[-2000:]}") from None
    finally:
        process.join(10)
        console.unlink(missing_ok=True)


def find_marked(folder: Path) -> list[psutil.Process]:
    """Return the running processes that the commands of an attempt have started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _new_file(folder: Path, kind: str) -> Path:
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    return Path(tempfile.mkstemp(prefix=f"{kind}-", suffix=".log", dir=logs)[1])


def _enter(folder: Path, console: Path, variables: Mapping[str, str]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    tempfile.tempdir = None  # it may remember the folder of the process that this one was forked from
    with console.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


@dataclass(frozen=True)
class _Start:
    folder: Path
    console: Path
    counts: Path
    variables: Mapping[str, str]
    module: str
    words: Sequence[str]
    moment: Moment | None
    prepare: Callable[[], None] | None


def _run(start: _Start) -> None:
    _enter(start.folder, start.console, start.variables)
    if start.prepare:
        start.prepare()
    counter = WriteCounter(start.folder, start.moment)
    counter.install()
    sys.argv, sys.orig_argv = [start.module, *start.words], [sys.executable, "-m", start.module, *start.words]
    try:
        runpy.run_module(start.module, run_name="__main__", alter_sys=True)
    finally:
        start.counts.write_text(str(counter.count))


def _call(
    folder: Path, console: Path, variables: Mapping[str, str], sender: Any, function: Any, arguments: Any
) -> None:
    _enter(folder, console, variables)
    sender.send(function(*arguments))
