"""Writes that meet others are tried again; refusals are not."""

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR, INVALID_PARAMETER_VALUE, PERMISSION_DENIED

from registry.store import retries
from registry.store.retries import retry_on_conflict


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(retries, "_PAUSE_SECONDS", 0.0)


def failing(times, code):
    """A write that fails so often, and the list of its attempts."""
    attempts = []

    def write():
        attempts.append(None)
        if len(attempts) <= times:
            raise MlflowException("no", error_code=code)
        return "written"

    return write, attempts


@pytest.mark.parametrize("code", [BAD_REQUEST, INTERNAL_ERROR])
def test_a_write_that_others_were_in_the_way_of_is_tried_again(code):
    write, attempts = failing(7, code)

    assert retry_on_conflict(write) == "written"
    assert len(attempts) == 8


def test_patience_ends():
    write, attempts = failing(100, INTERNAL_ERROR)
    with pytest.raises(MlflowException):
        retry_on_conflict(write)
    assert len(attempts) == 8


@pytest.mark.parametrize("code", [PERMISSION_DENIED, INVALID_PARAMETER_VALUE])
def test_a_refusal_stands(code):
    write, attempts = failing(1, code)
    with pytest.raises(MlflowException):
        retry_on_conflict(write)
    assert len(attempts) == 1
