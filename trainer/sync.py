"""Sync: deliver to the tracking server what run folders still contain after it was away or a process was killed.

`mlflow run . -e sync`, or `python -m trainer.sync --output runs`. Repeating the command is safe.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.core import settings
from trainer.core.errors import EmotionsError, TrackingError
from trainer.core.input_files import show_path
from trainer.core.run_folder import prune_finished
from trainer.reporting import console
from trainer.reporting.command import run_cli
from trainer.tracking.event_log import find_event_logs, is_locked
from trainer.tracking.run import MissingRunError, recreate, report_failure, sync

__all__ = ["SyncConfig", "main", "sync_folders"]

_EXAMPLE = "mlflow run . -e sync -P output=runs"


@dataclass(frozen=True, kw_only=True)
class SyncConfig:
    """Deliver the events that run folders still contain, and give runs of killed processes their final status.

    They go to MLFLOW_TRACKING_URI, else to the server that each run was started on. An address may contain a password,
    and MLflow logs every parameter of a project, so it is no setting.
    """

    output: str = "runs"
    """A run folder, or a folder with run folders."""
    recreate: bool = False
    """Make a run that the server does not have, because its database was lost, there again under a new id."""


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 when every folder is delivered, 1 when one is not."""
    return run_cli(_start, argv, report_failure)


def _start(argv: Sequence[str]) -> int:
    return sync_folders(settings.parse(SyncConfig, argv, example=_EXAMPLE))


def sync_folders(config: SyncConfig) -> int:
    """Deliver every run folder and return the exit status. A folder that fails does not stop the others."""
    screen = console.make()
    folders = find_event_logs(Path(config.output))
    if not folders:
        raise TrackingError(f"No run folder in {show_path(config.output)}. Give the folder of the runs with `output`.")
    for output in {folder.parent for folder in folders}:
        prune_finished(output)
    delivered, failed = 0, 0
    for folder in folders:
        if is_locked(folder):
            screen.show_note(f"{folder}: skipped, its run is still in progress")
            continue
        try:
            count = _deliver(folder, screen, may_recreate=config.recreate)
        except EmotionsError as error:  # any other exception is a defect, which must be seen
            screen.show_error(error)
            failed += 1
            continue
        if count:
            screen.show_note(f"{folder}: {count} events delivered")
        delivered += count
    screen.show_note(f"{len(folders)} run folders: {delivered} events delivered, {failed} failed")
    return 1 if failed else 0


def _deliver(folder: Path, screen: console.Console, *, may_recreate: bool) -> int:
    try:
        return sync(folder)
    except MissingRunError:
        if not may_recreate:
            raise
    made = recreate(folder)
    screen.show_note(f"{folder}: its run is made again as {made.name}, and the folder has this name")
    return sync(made)


if __name__ == "__main__":
    sys.exit(main())
