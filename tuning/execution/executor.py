"""Runs one training: a request, and how a child process executes it."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from trainer.config import PRESETS, RunConfig, TrainConfig, unread_settings
from trainer.core import artifacts
from trainer.core.child_process import FIRST_SIGNAL_STATUS
from trainer.core.errors import DataError, SettingsError
from trainer.core.input_files import read_json, show_path
from trainer.core.presets import load_preset
from trainer.core.redaction import redact
from trainer.core.run_folder import RUNTIME_AND_DATASET, diff_settings, format_diff, read_config
from trainer.core.settings import as_argv, from_flat
from trainer.tracking.delivery_errors import FAILED_CALL, NO_CONNECTION, NO_STORAGE
from trainer.tracking.event_log import read_metrics, wait_until_released
from tuning.execution.process import TrainingProcess
from tuning.execution.resources import Resources

__all__ = [
    "Executor",
    "Monitor",
    "ProcessExecutor",
    "TrainingFailedError",
    "TrainingKilledError",
    "TrainingRequest",
    "TrainingServerError",
]

_ERROR = "error: "
_MAX_CAUSE_CHARACTERS = 500
_TICK_SECONDS = 0.3
_REFUSAL = re.compile(r"\((401|403): ")


class TrainingFailedError(Exception):
    """A training ended with an error; the text is its cause."""


class TrainingServerError(TrainingFailedError):
    """A training could not begin, or continue its run: the tracking server or its artifact store did not answer."""


class TrainingKilledError(Exception):
    """A signal from outside ended a training."""


@dataclass(frozen=True)
class TrainingRequest:
    """A training with these settings in a run folder."""

    settings: Mapping[str, Any]
    folder: Path

    @property
    def outcome(self) -> dict[str, float] | None:
        """The scores of the finished training; None before its end."""
        path = self.folder / artifacts.OUTCOME
        if not path.is_file():
            return None
        try:
            scores: dict[str, float] = read_json(path)
        except ValueError as error:
            raise DataError(f"{show_path(path)} is damaged ({error}). Remove its folder and tune again.") from error
        return scores

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The settings without those that this training does not read: trials with other losses share them."""
        preset = load_preset(self.settings.get("preset", RunConfig.preset), PRESETS)
        unread = unread_settings(from_flat(TrainConfig, {**preset, **self.settings}))
        return {name: value for name, value in self.settings.items() if name not in unread}

    @property
    def settings_mismatch(self) -> str:
        """Settings that the training used with another value than requested; empty where it used all of them."""
        used = read_config(self.folder)
        return format_diff(diff_settings(used, self.arguments, {}, ignore=RUNTIME_AND_DATASET))


class Monitor(Protocol):
    """Follows a training."""

    def report(self, metrics: Sequence[Mapping[str, float]]) -> None:
        """Take the metrics that the training logged since the last call."""

    def check(self) -> None:
        """Raise an exception to stop the training; it propagates from `Executor.run`."""


class Executor(Protocol):
    """Executes trainings."""

    def run(self, request: TrainingRequest, resources: Resources, monitor: Monitor) -> None:
        """Train to the end, or continue the run whose folder has a checkpoint.

        Raises TrainingFailedError, in an outage TrainingServerError; TrainingKilledError; or what `monitor` raises
        after stopping the training.
        """


class ProcessExecutor:
    """Executes each training as a child process of this one."""

    def run(self, request: TrainingRequest, resources: Resources, monitor: Monitor) -> None:
        """See `Executor.run`."""
        request.folder.mkdir(parents=True, exist_ok=True)
        wait_until_released(request.folder, monitor.check)
        log = request.folder / artifacts.TRIAL_LOG
        log_start = log.stat().st_size if log.exists() else 0  # an earlier process of this run wrote what is before it
        argv, variables = _command(request)
        process = TrainingProcess(argv, resources, log, variables)
        try:
            status = _follow(process, request.folder, monitor)
        except BaseException:  # pruned, stopped or failed here: no training goes on without its monitor
            process.stop()
            raise
        process.clean_up()
        if status < 0 or status > FIRST_SIGNAL_STATUS:
            raise TrainingKilledError(f"its process was killed from outside (exit status {status})")
        if status:
            cause = redact(_cause(log.read_bytes()[log_start:], status))[:_MAX_CAUSE_CHARACTERS]
            # A right that is missing stays missing: it is not waited for.
            is_refused = _REFUSAL.search(cause) is not None
            is_of_server = cause.startswith((NO_CONNECTION, FAILED_CALL, NO_STORAGE)) and not is_refused
            raise TrainingServerError(cause) if is_of_server else TrainingFailedError(cause)


def _command(request: TrainingRequest) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and environment variables that start the run of a request, or resume it."""
    if not (request.folder / artifacts.CONFIG).is_file():
        # The run exists: the training opens it.
        return as_argv(request.arguments), {"MLFLOW_RUN_ID": request.folder.name}
    try:
        own = read_config(request.folder)
    except SettingsError as error:
        raise TrainingFailedError(str(error)) from error
    # A resumed run keeps the path of its data, which may have another name in this command. It is given all the same:
    # without it the preset would name the data, and contradict the run.
    return as_argv({**request.arguments, "dataset": own["dataset"], "resume": request.folder.name}), {}


def _follow(process: TrainingProcess, folder: Path, monitor: Monitor) -> int:
    offset = 0  # a retried trial has no reports: its run is read from the beginning
    while True:
        status = process.status  # before its metrics: a training that has ended is not stopped
        metrics, offset = read_metrics(folder, offset)
        monitor.report(metrics)
        if status is not None:
            return status
        monitor.check()
        time.sleep(_TICK_SECONDS)


def _cause(output: bytes, status: int) -> str:
    """Return the last error that a training printed, else its last line."""
    lines = output.decode("utf-8", errors="replace").splitlines()
    starts = [place for place, line in enumerate(lines) if line.startswith(_ERROR)]
    if starts:
        block = [lines[starts[-1]].removeprefix(_ERROR)]
        for line in lines[starts[-1] + 1 :]:
            if not line.startswith(" "):  # the rows of a list
                break
            block.append(line.strip())
        return " ".join(block)
    printed = [line.strip() for line in lines if line.strip()]
    return f"exit status {status}: {printed[-1] if printed else 'no output'}"
