"""One command leads a study, on SQLite and on PostgreSQL; workers see it."""

import pytest
import sqlalchemy

from trainer.core.errors import TuningError
from tuning.study.command_lock import is_led, lead
from tuning.study.storage import STORAGE_VARIABLE, close_storage, open_storage


@pytest.fixture(params=["sqlite", "postgresql"])
def storages(request, tmp_path, monkeypatch):
    """Two connections to one database, as of two commands."""
    monkeypatch.delenv(STORAGE_VARIABLE, raising=False)
    if request.param == "postgresql":
        monkeypatch.setenv(STORAGE_VARIABLE, request.getfixturevalue("database"))
    opened = [open_storage(tmp_path), open_storage(tmp_path)]
    yield opened
    for storage in opened:
        close_storage(storage)


def test_a_second_command_is_refused_until_the_first_ends(storages):
    first, second = storages
    with lead(first, "s"):
        assert is_led(second, "s")
        with pytest.raises(TuningError, match=r"study s\..*worker=true"), lead(second, "s"):
            pass
        with lead(second, "a name/with: letters"):
            pass
    assert not is_led(second, "s")
    with lead(second, "s"):
        assert is_led(first, "s")


def test_a_lock_that_the_database_has_lost_is_taken_again_unless_another_command_has_it(
    database, tmp_path, monkeypatch
):
    monkeypatch.setenv(STORAGE_VARIABLE, database)
    first, second = open_storage(tmp_path), open_storage(tmp_path)
    others = sqlalchemy.text("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
    with lead(first, "s") as held:
        held.keep()
        first.engine.dispose()
        engine = sqlalchemy.create_engine(database)
        with engine.connect() as connection:
            connection.execute(others)  # as a restart does
        engine.dispose()
        with lead(second, "s"), pytest.raises(TuningError, match="Another command already runs study s"):
            held.keep()
        held.keep()
        with pytest.raises(TuningError), lead(second, "s"):
            pass
    assert not is_led(second, "s")
    for storage in (first, second):
        close_storage(storage)
