"""What the tests of the registry share."""

import pytest
from batch_jobs import Job
from registry_parts import FINE

from registry import probe
from tests.core.tracking_parts import WARNINGS_OF_MLFLOW


def pytest_collection_modifyitems(items):
    for item in items:
        for mark in WARNINGS_OF_MLFLOW:
            item.add_marker(mark)


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
    monkeypatch.setattr(probe, "probe", stand_in)
    return stand_in


@pytest.fixture
def job(tmp_path, monkeypatch, capsys):
    """A folder with a fake model and the command that scores files there."""
    monkeypatch.setenv("COLUMNS", "200")
    return Job(tmp_path, monkeypatch, capsys)


# What a bundle is made of takes seconds to import, and most tests here have no need of it.
@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """Folder of a tiny saved classifier."""
    from served_parts import make_classifier

    return make_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="session")
def folder(classifier, tmp_path_factory):
    """A bundle of the classifier, not to be changed."""
    from served_parts import write_bundle

    return write_bundle(tmp_path_factory.mktemp("served") / "model", classifier)


@pytest.fixture(scope="session")
def model(folder):
    """The bundle as MLflow loads it."""
    from served_parts import load

    return load(folder)


@pytest.fixture(scope="session")
def expected(classifier):
    """Probabilities (n, k) of TEXTS, each text scored alone."""
    from served_parts import TEXTS, expected_probabilities

    return expected_probabilities(classifier, TEXTS)
