"""Backup: write databases and artifacts of the tracking server into a new folder, while the server goes on.

`docker/backup.sh`, or `python -m trainer.service.backups.backup`. The databases come first, each in one transaction,
then the artifacts: clients only add artifacts, so each one that the dump knows is there. The clean-up waits meanwhile.
"""

import argparse
import os
import shutil
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.core.errors import TrackingError, shorten
from trainer.core.signals import describe_stop, is_stop
from trainer.core.text_files import write_json
from trainer.service.backups import files as backup_files
from trainer.service.backups import schema
from trainer.service.backups.artifact_copier import ArtifactCopier
from trainer.service.backups.command import Service, run_command
from trainer.service.backups.files import Backup, Database, Manifest
from trainer.service.backups.verify import print_verification
from trainer.service.stores import Stores, table_counts

if TYPE_CHECKING:
    import psycopg

__all__ = ["LAST", "back_up", "main", "report_backup"]

LAST = "last.json"
"""Result of the last backup, which the health page reads: time, ok (null while it is running), what, seconds, bytes."""

_PARTIAL = ".partial-"
_PLACES = """
select distinct substring(place from '^[^:]*:(?://[^/]*)?') from (
    select artifact_location from experiments
    union select artifact_uri from runs
    union select artifact_location from logged_models
) places(place)
"""


def main(argv: list[str] | None = None) -> int:
    """Return 0 after a backup, 1 when there is none; the reason goes to standard error and to last.json."""
    parser = argparse.ArgumentParser(prog="docker/backup.sh", description="Back up the tracking server.")
    parser.add_argument("--verify", action="store_true", help="restore it beside the service and ask its champions")
    return run_command(parser, _back_up, argv)


def _back_up(given: argparse.Namespace, service: Service) -> None:
    made = report_backup(service.stores, service.backups, keep=service.settings.backup_keep)
    print(f"{made.folder}: {backup_files.summarize(made.manifest)}", flush=True)
    if made.manifest.outside:
        print(f"Not in the backup: artifacts in {', '.join(made.manifest.outside)}")
    if given.verify:
        print_verification(service.stores, made)


def report_backup(stores: Stores, folder: Path, *, keep: int) -> Backup:
    """Make a backup and write its result, or why there is none, beside it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    started = time.time()
    report = partial(_write_last, folder, started)
    report(ok=None, what="The backup is running, or it was killed.")
    try:
        backup = back_up(stores, folder, keep=keep)
    except BaseException as error:
        what = describe_stop(error) if is_stop(error) else str(error) or type(error).__name__
        with suppress(OSError):  # the disk may be full; the error itself is raised
            report(ok=False, what=shorten(what, 300))
        raise
    size = backup.manifest.artifact_bytes + sum(one.size for one in backup.manifest.databases.values())
    report(ok=True, what=f"{backup.folder.name}: {backup_files.summarize(backup.manifest)}", size=size)
    return backup


def back_up(stores: Stores, folder: Path, *, keep: int) -> Backup:
    """Write a backup into a new folder of `folder`, delete all but the newest `keep`, and return it.

    Raises TrackingError or OSError when it cannot be completed; then no folder counts as a backup.
    """
    with stores.lock("backup"):
        for left in folder.glob(f"{_PARTIAL}*"):  # of processes that were killed: the lock is ours
            shutil.rmtree(left)
        name = _new_name(folder)
        aside = folder / f"{_PARTIAL}{name}"
        aside.mkdir(mode=0o700, parents=True)
        try:
            backup = _write(stores, aside, backup_files.newest_backup(folder))
            os.sync()  # after a power failure a renamed folder must not have empty files
            aside.rename(folder / name)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        for old in backup_files.find_backups(folder)[:-keep]:
            shutil.rmtree(old.rename(folder / f"{_PARTIAL}{old.name}"))  # half deleted, it must not count as a backup
    return Backup(folder / name, backup.manifest)


def _new_name(folder: Path) -> str:
    while (folder / (name := datetime.now(UTC).strftime(backup_files.TIME_FORMAT))).exists():
        time.sleep(0.1)
    return name


def _write(stores: Stores, folder: Path, previous: Path | None) -> Backup:
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    with stores.connect() as connection:
        if "mlflow" not in (revisions := schema.read_revisions(connection)):
            raise TrackingError(f"The database {stores.database} has no tables of MLflow. Start the service once.")
    databases = {name: _dump(stores, name, folder) for name in stores.databases()}
    artifacts = ArtifactCopier(stores, folder, previous).copy_all()
    with stores.connect() as connection:
        manifest = Manifest(
            time=moment,
            mlflow=metadata.version("mlflow"),
            postgresql=connection.info.server_version // 10000,
            database=stores.database,
            revisions=revisions,
            databases=databases,
            artifacts=len(artifacts),
            artifact_bytes=sum(one.size for one in artifacts),
            artifacts_sha256=backup_files.write_artifacts(folder, artifacts),
            outside=_places_outside(connection, stores.bucket),
        )
    backup = Backup(folder, manifest)
    backup.write()
    return backup


def _dump(stores: Stores, database: str, folder: Path) -> Database:
    file = backup_files.dump_file(folder, database)
    file.parent.mkdir(exist_ok=True)
    with stores.connect(database) as connection:
        # One transaction for the dump and the counts, so that a restore can be compared with them.
        connection.execute("begin isolation level repeatable read read only")
        row = connection.execute("select pg_export_snapshot()").fetchone()
        snapshot = row[0] if row else ""
        words = ["--format=custom", f"--snapshot={snapshot}", "--lock-wait-timeout=60s", f"--file={file}", database]
        stores.run("pg_dump", *words)
        rows = dict(table_counts(connection))
        connection.execute("rollback")
        owner = connection.execute("select pg_get_userbyid(datdba) from pg_database where datname = %s", [database])
        (name,) = owner.fetchone() or ("",)
    return Database(size=file.stat().st_size, sha256=backup_files.file_digest(file), rows=rows, owner=name)


def _places_outside(connection: "psycopg.Connection[Any]", bucket: str) -> list[str]:
    """Return scheme and host of the artifact locations that are not in the bucket."""
    rows = connection.execute(_PLACES)
    inside = ("mlflow-artifacts:", "mlflow-artifacts://", f"s3://{bucket}")
    return sorted(place for (place,) in rows.fetchall() if place and place not in inside)


def _write_last(folder: Path, started: float, *, ok: bool | None, what: str, size: int = 0) -> None:
    content = {
        "time": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "ok": ok,
        "what": what,
        "seconds": round(time.time() - started, 1),
        "bytes": size,
    }
    write_json(folder / LAST, content)


if __name__ == "__main__":
    sys.exit(main())
