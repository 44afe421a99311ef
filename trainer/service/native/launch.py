"""Replace this process by a command, after killing what an earlier process of the part left behind.

`python -m trainer.service.native.launch COMMAND...`, as the supervisor starts parts that have several processes.
"""

import contextlib
import os
import signal
import sys

import psutil

__all__ = ["kill_orphans"]


def kill_orphans(session: int, *, all_of_them: bool = False) -> None:
    """Kill the processes of a session whose group has no leader any more, or all processes of a session.

    A server that is killed leaves the processes that it started, and these hold its port.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            group = os.getpgid(process.pid)
            if os.getsid(process.pid) == session and (all_of_them or not psutil.pid_exists(group)):
                os.kill(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    kill_orphans(os.getsid(0))
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - an own program, without a shell
