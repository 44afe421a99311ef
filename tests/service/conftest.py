import contextlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import pytest

# `make setup` does not install what the service needs; `make service-test` does.
collect_ignore_glob = [] if importlib.util.find_spec("supervisor") else ["*"]


def pytest_collection_modifyitems(items):
    """Every test of this folder that takes the service or some of its parts is run by `make service-test` only."""
    for item in items:
        if {"service", "parts"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("service")


@pytest.fixture(scope="session")
def service():
    """The service, for all tests of the session: a test leaves it running, with parts started and data of its own."""
    with _running("emotions service ") as running:  # with a space: every command must quote it
        yield running


@pytest.fixture(scope="module")
def service_below_a_path():
    """A service whose addresses all begin with the path /mlflow."""
    with _running("emotions-service-", prefix="/mlflow") as running:
        yield running


@pytest.fixture(scope="session")
def accounts(service, tmp_path_factory):
    """An account of each role: name and password."""
    from tests.service.account_helpers import make_accounts
    from tests.service.scene import fresh

    return make_accounts(service, fresh(), tmp_path_factory.mktemp("passwords"))


@pytest.fixture(scope="session")
def senders(service, accounts):
    """Who sends requests as an account of each role."""
    from tests.service.scene import Sender

    return {role: Sender(service, *account) for role, account in accounts.items()}


@pytest.fixture(scope="session")
def scene(senders):
    """What requests of these accounts are about."""
    from tests.service.scene import Scene
    from trainer.service.accounts.roles import ADMIN

    return Scene.make(senders[ADMIN])


@pytest.fixture(autouse=True)
def _umask():
    """Commands that a test calls in this process let nobody else read what they write."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def service_with_serve():
    """A service that serves the champion; there is none yet."""
    with _running("emotions-service-", serve="true") as running:
        yield running


@pytest.fixture
def open_folder():
    """A folder that every user may enter, as that of PostgreSQL must when root starts it; pytest closes its own."""
    with _open_folder("emotions-service-") as folder:
        yield folder


@contextlib.contextmanager
def _running(folder_name, **settings):
    from tests.service.running import RunningService

    with _open_folder(folder_name) as folder:
        running = RunningService.start(folder / "service", **settings)
        yield running
        assert running.close() == 0


@contextlib.contextmanager
def _open_folder(prefix):
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o711)
    yield folder
    if not os.environ.get("KEEP_SERVICE"):
        shutil.rmtree(folder)
