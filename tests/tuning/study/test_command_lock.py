"""One command leads a study, on SQLite and on PostgreSQL; workers see it."""

import pytest

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
