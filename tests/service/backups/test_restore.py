from dataclasses import replace

import pytest

from tests.service.backups.filled import add_run, contents, put
from trainer.core.errors import SettingsError, TrackingError
from trainer.service.backups.backup import back_up
from trainer.service.backups.files import Backup
from trainer.service.backups.restore import restore
from trainer.service.stores import table_counts

OBJECTS = {"1/a": b"one", "1/b/ü key's": b"two"}


@pytest.fixture
def made(stores, tmp_path):
    """A backup of stores with a run and two objects."""
    put(stores, OBJECTS)
    add_run(stores)
    with stores.maintenance() as connection:
        connection.execute("create database optuna")
    with stores.connect("optuna") as connection:
        connection.execute("create table trials (number int)")
        connection.execute("insert into trials values (1), (2)")
    return back_up(stores, tmp_path, keep=3)


def rows(stores, database=None):
    with stores.connect(database) as connection:
        return table_counts(connection)


def test_fresh_service_has_everything(made, stores, make_stores):
    with stores.maintenance() as connection:
        connection.execute("drop database optuna")
    fresh = make_stores()

    restore(fresh, made)

    assert rows(fresh) == rows(stores)
    assert rows(fresh, "optuna") == {"trials": 2}
    assert contents(fresh) == OBJECTS
    assert set(fresh.databases()) == {stores.database, fresh.database, "optuna"}


def test_service_with_content_is_left_as_it_is(made, stores):
    put(stores, {"1/a": b"newer", "1/c": b"newer"})
    add_run(stores)

    with pytest.raises(SettingsError, match="2 runs"):
        restore(stores, made)

    assert rows(stores)["runs"] == 2
    assert contents(stores)["1/a"] == b"newer"


def test_service_with_content_is_replaced_when_told(made, stores):
    put(stores, {"1/a": b"newer", "1/c": b"newer"})
    add_run(stores)

    restore(stores, made, replace=True)

    assert rows(stores)["runs"] == 1
    assert contents(stores) == OBJECTS


def test_damage_is_found_before_anything_changes(made, stores, make_stores):
    fresh = make_stores()
    file = made.folder / made.artifacts()[0].file
    file.write_bytes(b"ONE")

    with pytest.raises(SettingsError, match="artifacts/"):
        restore(fresh, made)

    file.unlink()
    with pytest.raises(SettingsError, match="missing"):
        restore(fresh, made)
    assert (rows(fresh)["runs"], contents(fresh)) == (0, {})


def test_newer_schema_is_refused(made, make_stores):
    newer = Backup(made.folder, replace(made.manifest, revisions={"mlflow": "feedc0ffee00"}, mlflow="9.1.0"))

    with pytest.raises(SettingsError, match=r"9\.1\.0"):
        restore(make_stores(), newer)


def test_newer_postgresql_is_refused(made, make_stores):
    newer = Backup(made.folder, replace(made.manifest, postgresql=99))

    with pytest.raises(SettingsError, match="PostgreSQL 99"):
        restore(make_stores(), newer)


def test_failure_leaves_the_service_as_it_was(made, stores):
    before = rows(stores)
    broken = replace(stores, bucket="nothing")

    with pytest.raises(TrackingError):
        restore(broken, made, replace=True)

    assert rows(stores) == before
    assert not [name for name in stores.databases() if "_restoring" in name]
