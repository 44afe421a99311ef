"""Writes that conflict with other writers are repeated; refused writes are not."""

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR, INVALID_PARAMETER_VALUE, PERMISSION_DENIED
from tenacity import wait_none

from registry.store import versions
from registry.store.versions import retry_on_conflict


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(versions, "_WAIT", wait_none())


def failing(times, code):
    """A write that fails this many times, and the list of its attempts."""
    attempts = []

    def write():
        attempts.append(None)
        if len(attempts) <= times:
            raise MlflowException("no", error_code=code)
        return "written"

    return write, attempts


@pytest.mark.parametrize("code", [BAD_REQUEST, INTERNAL_ERROR])
def test_a_conflict_is_repeated(code):
    write, attempts = failing(7, code)

    assert retry_on_conflict(write) == "written"
    assert len(attempts) == 8


def test_it_gives_up_after_eight_attempts():
    write, attempts = failing(100, INTERNAL_ERROR)
    with pytest.raises(MlflowException):
        retry_on_conflict(write)
    assert len(attempts) == 8


@pytest.mark.parametrize("code", [PERMISSION_DENIED, INVALID_PARAMETER_VALUE])
def test_a_refused_write_is_not_repeated(code):
    write, attempts = failing(1, code)
    with pytest.raises(MlflowException):
        retry_on_conflict(write)
    assert len(attempts) == 1
