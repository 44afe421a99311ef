"""Short faults of a service while a training and a search log to it; `make bench` makes longer ones.

What is promised: the commands end well, and the server has every metric point and every file once.
"""

import pytest

from tests.chaos.templates import Templates
from tests.service.clients import Clients
from tests.service.faults import FAULTS
from tests.service.outages import SHORT, attack

pytestmark = pytest.mark.service

_FAULTS = ("server killed", "PostgreSQL stopped", "S3 stopped")


def test_everything_arrives_once(service, tmp_path):
    """The faults follow each other during the same commands: each alone needs commands of its own."""
    clients = Clients(tmp_path, service.environment(), Templates(tmp_path / "templates"), SHORT.pause)

    def one_after_the_other(service, network, seconds):
        for name in _FAULTS:
            FAULTS[name](service, network, seconds)

    tallies = attack(service, one_after_the_other, clients, SHORT)

    assert {kind: tally.remarks for kind, tally in tallies.items() if not tally.is_kept} == {}
