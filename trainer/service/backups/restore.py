"""Restore: put databases and artifacts of a backup into the tracking server.

`docker/restore.sh BACKUP`, or `python -m trainer.service.backups.restore BACKUP`. The databases are restored beside
those in use and take their names at the end, so a failure before leaves the service as it was.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken

from trainer.core.errors import SettingsError, TrackingError, shorten
from trainer.service import secrets
from trainer.service.backups import files as backup_files
from trainer.service.backups import schema
from trainer.service.backups.command import Service, run_command
from trainer.service.backups.files import Artifact, Backup
from trainer.service.stores import Stores, object_errors, table_counts

__all__ = ["check_usable", "find", "foreign_secrets", "main", "restore", "restored_databases"]

_ASIDE, _REPLACED = "_restoring", "_replaced"
_THREADS = 8
_LISTED = 1000  # keys that S3 deletes in one call
_CONTENT = {"runs": "runs", "registered_models": "registered models", "experiments": "experiments"}


def main(argv: list[str] | None = None) -> int:
    """Return 0 after a restore, 1 when nothing was restored; the reason goes to standard error."""
    parser = argparse.ArgumentParser(prog="docker/restore.sh", description="Restore a backup into the tracking server.")
    parser.add_argument("backup", nargs="?", type=Path, help="name or folder of a backup; by default the newest")
    parser.add_argument("--replace", action="store_true", help="delete the runs, models and artifacts of the service")
    return run_command(parser, _restore, argv)


def _restore(given: argparse.Namespace, service: Service) -> None:
    backup = find(service.backups, given.backup)
    restore(service.stores, backup, replace=given.replace)
    print(f"Restored {backup.folder.name}: {backup_files.summarize(backup.manifest)}. Restart the tracking server.")
    for note in foreign_secrets(service):
        print(note)


def find(backups: Path, name: Path | None) -> Backup:
    """Return the backup of a name or folder, by default the newest. Raises SettingsError when there is none."""
    folder = backups / name if name else backup_files.newest_backup(backups)
    if folder is None:
        raise SettingsError(f"There is no backup in {shorten(backups)}. docker/backup.sh makes one.")
    return Backup.read(folder)


def foreign_secrets(service: Service) -> Iterator[str]:
    """Yield a sentence for each secret of this service that does not fit the accounts and webhooks of its database."""
    from werkzeug.security import check_password_hash

    with service.stores.connect() as connection:
        webhooks = connection.execute("select secret from webhooks where secret is not null").fetchall()
        users = connection.execute("select to_regclass('users')").fetchone() != (None,)
        hashes = (
            connection.execute(
                "select password_hash from users where username = %s", [service.settings.admin]
            ).fetchall()
            if users
            else []
        )
    key = Fernet(secrets.read(service.secrets, "webhook_key"))
    unread = [secret for (secret,) in webhooks if not _can_read(key, secret)]
    if unread:
        yield (
            f"{len(unread)} webhooks have a secret that {service.secrets / 'webhook_key'} cannot read: put back the "
            "file that belongs to the backup, or make the webhooks again."
        )
    password = secrets.read(service.secrets, secrets.ADMIN_PASSWORD)
    if any(not check_password_hash(one, password) for (one,) in hashes):
        yield (
            f"The accounts and passwords are those of the backup: {service.secrets / secrets.ADMIN_PASSWORD} is not "
            f"the password of {service.settings.admin}. Put back the file that belongs to the backup."
        )


def restore(stores: Stores, backup: Backup, *, replace: bool = False) -> None:
    """Restore a backup. replace: also when the service has runs or artifacts, which are then lost.

    Raises SettingsError when the backup is damaged or of a newer version, or the service has content.
    """
    check_usable(backup)
    with stores.lock("restore"), stores.connect("postgres") as connection:
        _check_server(connection, backup)
        if not replace:
            _check_empty(stores)
        names = {name: _target(stores, backup, name) for name in backup.manifest.databases}
        with restored_databases(stores, backup, {name: target + _ASIDE for name, target in names.items()}):
            upload(stores, backup)
            _take_names(connection, {target + _ASIDE: target for target in names.values()})
        if replace:
            _delete_others(stores, backup)


def check_usable(backup: Backup) -> None:
    """Raise SettingsError when the backup is damaged, or the installed MLflow is older than the one that it is of."""
    schema.check_known(backup.manifest.revisions, f"the backup, which is of MLflow {backup.manifest.mlflow}")
    if damage := list(backup.find_damage()):
        raise SettingsError(
            f"The backup {backup.folder.name} is damaged: {shorten(damage[0])} ({len(damage)} files in all). Restore "
            "another one; nothing was changed."
        )


@contextmanager
def restored_databases(stores: Stores, backup: Backup, names: Mapping[str, str]) -> Iterator[None]:
    """Restore the databases under other names, with the tables of the installed MLflow; drop them after the block.

    names: database → its other name. A database that the block has renamed stays.
    """
    with stores.connect("postgres") as connection:
        try:
            for name, other in names.items():
                _drop(connection, other)
                dumped = backup.manifest.databases[name]
                owner = dumped.owner if _has_role(connection, dumped.owner) else stores.user
                _execute(connection, "create database {} owner {} template template0", other, owner)
                words = ["--no-owner", f"--role={owner}", "--no-privileges", "--exit-on-error", f"--dbname={other}"]
                stores.run("pg_restore", *words, str(backup.dump(name)))
                _check_rows(stores, other, dumped.rows)
            main = names[backup.manifest.database]
            if not schema.is_current(backup.manifest.revisions):
                schema.upgrade(stores, main)
            yield
        finally:
            for other in names.values():
                _drop(connection, other)


def upload(stores: Stores, backup: Backup) -> None:
    """Put the artifacts of a backup into the bucket, those that it lacks."""
    client = stores.s3()
    there = {one.key: (one.etag, one.size) for one in stores.objects(client)}
    missing = [one for one in backup.artifacts() if there.get(one.key) != (one.etag, one.size)]

    @object_errors("write the artifacts")
    def put(artifact: Artifact) -> None:
        client.upload_file(str(backup.folder / artifact.file), stores.bucket, artifact.key)

    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            list(pool.map(put, missing))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    sizes = {one.key: one.size for one in stores.objects(client)}
    if lost := [one.key for one in backup.artifacts() if sizes.get(one.key) != one.size]:
        raise TrackingError(f"{len(lost)} artifacts did not arrive in the object store, such as {shorten(lost[0])}.")


def _check_server(connection: Any, backup: Backup) -> None:
    version = connection.info.server_version // 10000
    if version < backup.manifest.postgresql:
        raise SettingsError(
            f"The backup is of PostgreSQL {backup.manifest.postgresql}, and the service has {version}. Install "
            f"PostgreSQL {backup.manifest.postgresql} or newer; nothing was changed."
        )


def _check_empty(stores: Stores) -> None:
    counts: Mapping[str, int] = {}
    if stores.database in stores.databases():  # it may be what was lost
        with stores.connect() as connection:
            counts = table_counts(connection)
    counts = {**counts, "experiments": max(0, counts.get("experiments", 0) - 1)}  # MLflow makes the experiment Default
    found = [f"{counts[table]} {name}" for table, name in _CONTENT.items() if counts.get(table)]
    if objects := len(stores.objects(stores.s3())):
        found.append(f"{objects} artifacts")
    if found:
        raise SettingsError(
            f"The service must be empty, but has {', '.join(found)}. To replace them by the backup, for good, add "
            "--replace; docker/backup.sh keeps them."
        )


def _target(stores: Stores, backup: Backup, name: str) -> str:
    return stores.database if name == backup.manifest.database else name


def _check_rows(stores: Stores, database: str, expected: Mapping[str, int]) -> None:
    with stores.connect(database) as connection:
        found = table_counts(connection)
    if wrong := sorted(table for table in expected.keys() | found.keys() if expected.get(table) != found.get(table)):
        raise TrackingError(
            f"Table {wrong[0]} has {found.get(wrong[0], 0)} rows after the restore, and had "
            f"{expected.get(wrong[0], 0)} when the backup was made. Nothing was changed."
        )


def _take_names(connection: Any, names: Mapping[str, str]) -> None:
    """Give databases the names of those in use, all of them in one transaction, and drop these."""
    for name in names.values():
        _drop(connection, name + _REPLACED)
        if _exists(connection, name):
            _execute(connection, "alter database {} allow_connections false", name)
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
    with connection.transaction():
        for new, name in names.items():
            if _exists(connection, name):
                _execute(connection, "alter database {} rename to {}", name, name + _REPLACED)
            _execute(connection, "alter database {} rename to {}", new, name)
    for name in names.values():
        _drop(connection, name + _REPLACED)


def _delete_others(stores: Stores, backup: Backup) -> None:
    client = stores.s3()
    kept = {one.key for one in backup.artifacts()}
    delete(stores, client, [one.key for one in stores.objects(client) if one.key not in kept])


def delete(stores: Stores, client: Any, keys: list[str]) -> None:
    """Delete objects of the bucket."""
    for start in range(0, len(keys), _LISTED):
        part = [{"Key": key} for key in keys[start : start + _LISTED]]
        with object_errors("delete artifacts"):
            answer = client.delete_objects(Bucket=stores.bucket, Delete={"Objects": part, "Quiet": True})
        if errors := answer.get("Errors"):
            raise TrackingError(
                f"Cannot delete artifact {shorten(errors[0]['Key'])} ({shorten(errors[0]['Message'])})."
            )


def _exists(connection: Any, database: str) -> bool:
    return bool(connection.execute("select 1 from pg_database where datname = %s", [database]).fetchone())


def _can_read(key: Fernet, secret: str) -> bool:
    try:
        key.decrypt(secret)
    except InvalidToken:
        return False
    return True


def _has_role(connection: Any, name: str) -> bool:
    return bool(connection.execute("select 1 from pg_roles where rolname = %s", [name]).fetchone())


def _drop(connection: Any, database: str) -> None:
    _execute(connection, "drop database if exists {} with (force)", database)


def _execute(connection: Any, statement: str, *names: str) -> None:
    from psycopg import sql

    connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


if __name__ == "__main__":
    sys.exit(main())
