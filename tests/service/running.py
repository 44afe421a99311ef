"""A service of `make service` for tests, on free ports, in a folder of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import requests

from trainer.core.environment import child_environment
from trainer.service.native import s3
from trainer.service.native.supervisor import Supervisor

_READY = "The service runs at "
_START_SECONDS = 240


@dataclass
class RunningService:
    """`python -m trainer.service` in the background: its addresses, and its parts stopped, started and killed."""

    folder: Path
    url: str
    settings: dict[str, str]
    process: subprocess.Popen = field(repr=False)

    @classmethod
    def start(cls, folder, **settings):
        """Start a service on `folder`, which may have the data of an earlier one; `settings` without SERVICE_."""
        given = {**free_ports(), "workers": 1, "folder": folder, **settings}
        variables = {f"SERVICE_{name.upper()}": str(value) for name, value in given.items()}
        process = start_process(variables)
        url = _wait_for_url(process)
        return cls(folder=Path(folder), url=url, settings=variables, process=process)

    @property
    def ca_file(self):
        return self.folder / "secrets" / "tls" / "ca.crt"

    def secret(self, name):
        return (self.folder / "secrets" / name).read_text().strip()

    def environment(self, user="admin", password=None):
        """What a client sets; the password of other users is in secrets/users/NAME."""
        if password is None:
            password = self.secret("admin_password" if user == "admin" else f"users/{user}")
        return {
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": password,
            "MLFLOW_TRACKING_SERVER_CERT_PATH": str(self.ca_file),
        }

    def request(self, method, path, user="admin", password=None, **options):
        """Send a request through the edge; `user=None` for one without a login."""
        login = user and (user, self.environment(user, password)["MLFLOW_TRACKING_PASSWORD"])
        options = {"timeout": 60, "auth": login or None, "verify": str(self.ca_file), **options}
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, f"{self.url}{path}", **options)

    def pid(self, part):
        return self._supervisor().pid(part)

    def stop(self, part):
        self._supervisor().call("stopProcess", part)

    def start_part(self, part):
        """Start a part and wait until the supervisor takes it for running; `wait_until_healthy` waits for an answer."""
        self._supervisor().call("startProcess", part)

    def kill(self, part):
        """Kill -9 the process of a part, as running out of memory does; return its id."""
        pid = self.pid(part)
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_until_healthy(self, seconds=120):
        """Wait until MLflow answers a request that reads the database, through the edge."""
        until = time.monotonic() + seconds
        while True:
            with contextlib.suppress(requests.RequestException):
                answer = self.request("POST", "/api/2.0/mlflow/experiments/search", json={"max_results": 1})
                if answer.ok:
                    return
            assert time.monotonic() < until, self.log("tracking")[-3000:]
            time.sleep(0.2)

    def log(self, part):
        return (self.folder / "logs" / f"{part}.log").read_text(errors="replace")

    def close(self):
        """Stop the service as Ctrl-C does; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=150)
        return self.process.returncode

    def _supervisor(self):
        return Supervisor(self.folder)


def free_ports():
    """Settings of ports that nothing listens on."""
    names = ("port", "tracking_port", "postgres_port", "health_port", "serve_port")
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in names]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return dict(zip(names, (one.getsockname()[1] for one in sockets), strict=True)) | {"s3_port": _free_range()}


def start_process(variables):
    """Start `python -m trainer.service` with these variables; its output is a pipe of text."""
    return subprocess.Popen(
        # A shell ignores Ctrl-C in what it runs in the background, and `close` sends it.
        ["env", "--default-signal=INT", sys.executable, "-m", "trainer.service"],
        env=child_environment() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Ctrl-C in the terminal of the tests must not end it before its tests
    )


def _wait_for_url(process):
    until, seen = time.monotonic() + _START_SECONDS, []
    for line in process.stdout:
        seen.append(line)
        if line.startswith(_READY):
            return line.removeprefix(_READY).strip()
        if time.monotonic() > until:
            process.terminate()
    process.wait()
    process.stdout.close()
    raise AssertionError(f"the service did not start: {''.join(seen)}")


def _free_range():
    """The first of as many free ports in a row as SeaweedFS needs; below those that the system gives to clients."""
    start = 20000 + os.getpid() % 1000 * 10
    for first in range(start, start + 10000, s3.PORTS):
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + s3.PORTS):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports")
