"""Fixtures for the tests of spaces."""

import pytest
from space_helpers import COMPONENTS, settings_of

from tuning.space.parser import read_space


@pytest.fixture
def read(tmp_path):
    """Reads the space of a text."""

    def call(text, losses=("combined",), fixed=(), arguments=()):
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return read_space(str(path), settings_of(*arguments), COMPONENTS, losses, fixed)

    return call
