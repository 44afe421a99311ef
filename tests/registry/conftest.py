"""Fixtures that the tests of the registry share."""

import pytest
from registry_helpers import FINE, Commands
from stored_champions import copy_store, make_champions

from registry.promotion import model_check
from registry.store import aliases


class FakeModelCheck:
    """Returns `result` instead of starting the process that checks a model; `uris` has the models checked."""

    def __init__(self):
        self.result, self.uris, self.during = FINE, [], lambda: None

    def __call__(self, uri, judged, config, scratch):
        assert len(judged.texts) == len(judged.probabilities)
        self.uris.append(uri)
        self.during()
        return self.result


@pytest.fixture
def checked(monkeypatch):
    """The model check, replaced by one whose result a test may set."""
    fake = FakeModelCheck()
    monkeypatch.setattr(model_check, "check_model", fake)
    monkeypatch.setattr(aliases, "_RECHECK_SECONDS", 0)
    return fake


@pytest.fixture(scope="session")
def _champions(tmp_path_factory, _migrated_store):
    folder = tmp_path_factory.mktemp("champions")
    return folder, make_champions(folder, _migrated_store, (0.75, 0.87, 0.97))


@pytest.fixture
def champions(_champions, checked, tmp_path, monkeypatch):
    """Commands on a store where versions 1, 2 and 3 became champion one after the other; `runs` are their runs."""
    from mlflow import MlflowClient

    uri = copy_store(_champions[0], tmp_path)
    monkeypatch.chdir(tmp_path)
    commands = Commands(MlflowClient(uri), tmp_path)
    commands.runs = _champions[1]
    return commands


@pytest.fixture
def empty(tracking_uri, checked, tmp_path, monkeypatch):
    """Commands on a store without runs."""
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    return Commands(MlflowClient(tracking_uri), tmp_path)
