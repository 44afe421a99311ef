"""What the tests of the registry share."""

import pytest
from registry_parts import FINE

from registry.promotion import model_check


class StandIn:
    """Stands in for the process that tries a model; what it is set to is found. Lists the addresses tried."""

    def __init__(self):
        self.found, self.uris = FINE, []

    def __call__(self, uri, predictions, temperature, config):
        assert predictions.is_file()
        self.uris.append(uri)
        return self.found


@pytest.fixture
def tried(monkeypatch):
    """Stands in for the process that tries a model; what it is set to is found. Lists the addresses tried."""

    stand_in = StandIn()
    monkeypatch.setattr(model_check, "probe", stand_in)
    return stand_in
