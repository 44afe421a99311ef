"""A training as a child process, which never outlives the process that started it."""

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.core.child_process import STOP_SECONDS, child_command, kill_tree
from trainer.core.environment import child_environment
from tuning.execution.resources import Resources

__all__ = ["TRAINING", "TrainingProcess"]

TRAINING = "trainer.train"
"""Module that trains when it is run."""


class TrainingProcess:
    """A running training. Its standard input is a pipe: the child ends itself when this process is gone."""

    def __init__(self, argv: Sequence[str], resources: Resources, log: Path, variables: Mapping[str, str]) -> None:
        environment = {**child_environment(), "OMP_NUM_THREADS": str(resources.threads), **variables}
        if resources.gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(resources.gpus)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                child_command(TRAINING, argv),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches this process alone
            )
        if hasattr(os, "sched_setaffinity"):  # macOS has no such call
            with contextlib.suppress(ProcessLookupError):  # it may have ended already
                os.sched_setaffinity(self._process.pid, resources.cores)

    @property
    def status(self) -> int | None:
        """Exit status, negative for the signal that killed it; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Send SIGTERM and wait for the end, so that the run is closed and the checkpoint whole; then clean up."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.terminate()
            self._process.wait(STOP_SECONDS)
        self.clean_up()

    def clean_up(self) -> None:
        """Kill the training and everything that it started."""
        kill_tree(self._process.pid)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
