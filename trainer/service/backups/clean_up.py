"""Clean-up: remove what nothing needs from the tracking server. It shows what it would remove, and does it on request.

`docker/gc.sh`, or `python -m trainer.service.backups.clean_up`, and the same with `--apply`.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.core import artifacts
from trainer.core.errors import SettingsError
from trainer.service.backups.clean_up_plan import Limits, Plan, Silent, make_plan
from trainer.service.backups.command import Service, run_command
from trainer.service.backups.restore import delete
from trainer.service.stores import StoredObject, Stores

__all__ = ["apply", "main", "show"]

_UNITS = ("B", "kB", "MB", "GB", "TB")
_CLOSE = "update runs set status = 'KILLED', end_time = %s where run_uuid = %s and status = 'RUNNING'"
_SAY = """
insert into tags (key, value, run_uuid) values (%s, %s, %s)
on conflict (key, run_uuid) do update set value = excluded.value
"""


def main(argv: list[str] | None = None) -> int:
    """Return 0 when the table was shown, and everything in it removed with `--apply`; 1 after an error."""
    parser = argparse.ArgumentParser(prog="docker/gc.sh", description="Remove what nothing needs from the server.")
    parser.add_argument("--apply", action="store_true", help="remove it; without this nothing changes")
    parser.add_argument("--days", type=float, default=30, help="since the deletion of runs, models and experiments")
    parser.add_argument("--silent-hours", type=float, default=24, help="since the last metric of a run that is RUNNING")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of run folders with checkpoints")
    return run_command(parser, _clean_up, argv)


def _clean_up(given: argparse.Namespace, service: Service) -> None:
    for name in ("days", "silent_hours"):
        if not 0 <= getattr(given, name) < 1e6:
            raise SettingsError(f"`{name.replace('_', '-')}` must be at least 0, got {getattr(given, name)}.")
    with service.stores.lock("clean-up"):
        plan = make_plan(service.stores, Limits(days=given.days, silent_hours=given.silent_hours), given.runs)
        print("\n".join(show(plan)), flush=True)
        if given.apply:
            apply(service.stores, plan)
    print("Done." if given.apply else "Nothing was changed. docker/gc.sh --apply does it.")


def show(plan: Plan) -> list[str]:
    """Return a table of the plan, one line for each kind."""
    checkpoint_bytes = sum(_size(folder) for folder in plan.checkpoints)
    rows = [
        ("remove", "deleted runs", len(plan.runs), None),
        ("remove", "deleted models, and models of these runs", len(plan.models), None),
        ("remove", "deleted experiments without runs", len(plan.experiments), None),
        ("remove", "artifacts of these", *_sum(plan.removed_objects)),
        ("remove", "artifacts of no run or model", *_sum(plan.unnamed_objects)),
        ("remove", "checkpoints of finished or deleted runs", len(plan.checkpoints), checkpoint_bytes),
        ("close", "running runs without a sign of life", len(plan.silent), None),
        ("keep", "deleted runs that the registry needs", len(plan.kept_runs), None),
        ("keep", "deleted models that the registry or a run needs", len(plan.kept_models), None),
        ("keep", "objects that are not MLflow's", *_sum(plan.other_objects)),
    ]
    width = max(len(what) for _, what, _, _ in rows)
    return [
        f"{action:<6}  {what:<{width}}  {number:>7}  {'' if size is None else _in_units(size):>8}".rstrip()
        for action, what, number, size in rows
    ]


def apply(stores: Stores, plan: Plan) -> None:
    """Do what the plan says: the rows first, so that after a kill no run or model lacks its artifacts."""
    _close(stores, plan.silent)
    if plan.runs or plan.models or plan.experiments:
        _delete_rows(stores, plan)
    delete(stores, stores.s3(), [one.key for one in (*plan.removed_objects, *plan.unnamed_objects)])
    for folder in plan.checkpoints:
        shutil.rmtree(folder)


def _close(stores: Stores, silent: Iterable[Silent]) -> None:
    with stores.connect() as connection:
        for run in silent:
            seen = datetime.fromtimestamp(run.seen / 1000, UTC).isoformat(timespec="minutes")
            with connection.transaction():
                if connection.execute(_CLOSE, [run.seen, run.run_id]).rowcount:  # it may have ended meanwhile
                    note = f"No sign of life since {seen}: its process was killed, or lost its machine."
                    connection.execute(_SAY, [artifacts.TAG_ERROR, note, run.run_id])


def _delete_rows(stores: Stores, plan: Plan) -> None:
    os.environ["PGPASSFILE"] = str(stores.password_file)
    from mlflow.store.tracking import sqlalchemy_store

    module: Any = sqlalchemy_store  # MLflow leaves it untyped
    store = module.SqlAlchemyStore(stores.url(), f"s3://{stores.bucket}")
    try:
        # What `mlflow gc` calls. Its own command deletes deleted experiments besides what it is told.
        for run in plan.runs:
            store._hard_delete_run(run)
        for model in plan.models:
            store._hard_delete_logged_model(model)
        for experiment in plan.experiments:
            store._hard_delete_experiment(experiment)
    finally:
        store.engine.dispose()


def _sum(objects: Sequence[StoredObject]) -> tuple[int, int]:
    return len(objects), sum(one.size for one in objects)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _in_units(size: float) -> str:
    for unit in _UNITS[:-1]:
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} {_UNITS[-1]}"


if __name__ == "__main__":
    sys.exit(main())
