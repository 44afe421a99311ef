"""Runs the parts under supervisord, which restarts one that dies and stops them all at the end."""

import collections
import contextlib
import http.client
import os
import shlex
import subprocess
import threading
import time
import xmlrpc.client
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from trainer.core.child_process import child_command, parent_pipe
from trainer.core.errors import EmotionsError, shorten
from trainer.service.native.launch import kill_orphans
from trainer.service.native.part import Part

__all__ = ["Supervisor", "running", "socket_path"]

_POLL_SECONDS = 0.1
_READY_SECONDS = 120
_STOP_SECONDS = 90
_LOG_LINES = 15
_DEAD = ("BACKOFF", "FATAL", "EXITED")


class Supervisor:
    """A supervisord that already runs on a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def call(self, name: str, *arguments: object) -> Any:
        """Call a method of supervisord, such as `getProcessInfo`. Raises EmotionsError when that fails."""
        transport = SupervisorTransport(None, None, f"unix://{socket_path(self.folder)}")
        try:
            with contextlib.closing(transport):
                proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
                return getattr(proxy.supervisor, name)(*arguments)
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            called = " ".join([name, *map(str, arguments[:1])])
            log = self.folder / "logs" / "supervisord.log"
            raise EmotionsError(f"The supervisor refuses {called} ({shorten(error)}). Its log is {log}.") from error

    def start(self, part: Part) -> None:
        """Start a part and wait until it is ready. Raises EmotionsError with the end of its log when it dies."""
        self.call("startProcess", part.name, False)
        until = time.monotonic() + _READY_SECONDS
        while part.once or time.monotonic() < until:  # a backup before an upgrade may take long
            state = self.call("getProcessInfo", part.name)
            if part.once and state["statename"] == "EXITED" and state["exitstatus"] == 0:
                return
            if state["statename"] in _DEAD:
                raise EmotionsError(f"`{part.name}` ended at its start. {self._end_of_log(part.name)}")
            if not part.once and state["statename"] == "RUNNING" and part.ready():
                return
            time.sleep(_POLL_SECONDS)
        raise EmotionsError(f"`{part.name}` does not answer after {_READY_SECONDS} s. {self._end_of_log(part.name)}")

    def pid(self, name: str) -> int:
        """Return the process id of a part; 0 when it does not run."""
        return int(self.call("getProcessInfo", name)["pid"])

    def _end_of_log(self, name: str) -> str:
        path = self.folder / "logs" / f"{name}.log"
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        except FileNotFoundError:
            lines = []
        return "\n".join([f"The end of {path}:", *(f"  {line[:300]}" for line in lines)])


@contextlib.contextmanager
def running(parts: Sequence[Part], folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Give the process of a new supervisord, which has started no part yet; everything has ended after the block."""
    (folder / "logs").mkdir(exist_ok=True, mode=0o700)
    configuration = folder / "supervisord.conf"
    configuration.write_text(_configuration(parts, folder), encoding="utf-8")
    command = child_command("supervisor.supervisord", ["--nodaemon", "--configuration", str(configuration)])
    with (
        parent_pipe() as pipe,
        subprocess.Popen(
            command,
            stdin=pipe,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
        ) as process,
    ):
        # No file: supervisord writes there that a log cannot be written, and ends when it cannot write that either.
        last: collections.deque[bytes] = collections.deque(maxlen=_LOG_LINES)
        threading.Thread(target=last.extend, args=(process.stdout or (),), daemon=True).start()
        try:
            _wait_for(process, folder, last)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            kill_orphans(process.pid, all_of_them=True)


def socket_path(folder: Path) -> Path:
    """Return the socket on which supervisord takes calls."""
    return folder / "supervisor.sock"


def _wait_for(process: subprocess.Popen[bytes], folder: Path, output: Iterable[bytes]) -> None:
    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(EmotionsError):
            Supervisor(folder).call("getState")
            return
        if process.poll() is not None:
            break
        time.sleep(_POLL_SECONDS)
    log = b"".join(output).decode(errors="replace")
    raise EmotionsError(f"supervisord does not start:\n{log}")


def _configuration(parts: Sequence[Part], folder: Path) -> str:
    sections: dict[str, dict[str, object]] = {
        "unix_http_server": {"file": socket_path(folder), "chmod": "0700"},
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
        "supervisord": {
            "logfile": folder / "logs" / "supervisord.log",
            "logfile_maxbytes": "10MB",
            "logfile_backups": 2,
            "pidfile": folder / "supervisord.pid",
            "nodaemon": "true",
            "umask": "077",
            **({"user": "root"} if os.geteuid() == 0 else {}),
        },
        **{f"program:{part.name}": _program(part, folder, order) for order, part in enumerate(parts)},
    }
    return "\n".join(
        f"[{title}]\n" + "".join(f"{name} = {str(value).replace('%', '%%')}\n" for name, value in section.items())
        for title, section in sections.items()
    )


def _program(part: Part, folder: Path, order: int) -> dict[str, object]:
    quoted = ",".join(f'{name}="{value}"' for name, value in part.environment.items())
    return {
        "command": shlex.join(part.command),
        "directory": "/",
        "environment": quoted,
        "autostart": "false",
        "autorestart": "false" if part.once else "true",
        "startsecs": 0 if part.once else 1,
        # A part that cannot start, for lack of disk or memory, is tried again until it can.
        "startretries": 0 if part.once else 1_000_000,
        "priority": 0 if part.store else order + 1,
        "stopsignal": part.stop_signal,
        "stopwaitsecs": part.stop_seconds,
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": folder / "logs" / f"{part.name}.log",
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": 2,
        **({"user": part.user} if part.user else {}),
    }
