"""Fixtures for the tests of batch scoring."""

import pytest
from batch_jobs import Job


@pytest.fixture
def job(tmp_path, monkeypatch, capsys):
    """A folder with a fake model and the command that scores files there."""
    monkeypatch.setenv("COLUMNS", "200")
    return Job(tmp_path, monkeypatch, capsys)
