import pytest

from trainer.core.errors import TrackingError


def test_databases_are_those_with_data(stores):
    assert stores.database in stores.databases()
    assert "postgres" not in stores.databases()


def test_lock_is_held_once(stores):
    with stores.lock("backup"), pytest.raises(TrackingError, match="clean-up"), stores.lock("restore"):
        pass
    with stores.lock("restore"):
        pass
