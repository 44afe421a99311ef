"""Short faults of a service while a training and a search log to it; `make bench` makes longer ones.

What is promised: the commands end well, and the server has every metric point and every file once.
"""

import pytest

from tests.chaos.templates import Templates
from tests.service.clients import Clients
from tests.service.faults import FAULTS
from tests.service.outages import SHORT, attack

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    return Templates(tmp_path_factory.mktemp("faults") / "templates")


@pytest.mark.parametrize("fault", ["server killed", "PostgreSQL stopped", "S3 stopped"])
def test_everything_arrives_once(service, templates, tmp_path, fault):
    clients = Clients(tmp_path, service.environment(), templates, SHORT.pause)

    tallies = attack(service, FAULTS[fault], clients, SHORT)

    assert {kind: tally.remarks for kind, tally in tallies.items() if not tally.is_kept} == {}
