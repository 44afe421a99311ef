"""Fixtures: a saved classifier and a served model of it."""

import pytest


# What a saved model is made of takes seconds to import, and most tests here have no need of it.
@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """Folder of a tiny saved classifier."""
    from serving_helpers import make_classifier

    return make_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="session")
def folder(classifier, tmp_path_factory):
    """A saved model of the classifier, not to be changed."""
    from serving_helpers import write_model

    return write_model(tmp_path_factory.mktemp("served") / "model", classifier)


@pytest.fixture(scope="session")
def model(folder):
    """The saved model as MLflow loads it."""
    from serving_helpers import load

    return load(folder)


@pytest.fixture(scope="session")
def expected(classifier):
    """Probabilities (n, k) of TEXTS, each text scored alone."""
    from serving_helpers import TEXTS, expected_probabilities

    return expected_probabilities(classifier, TEXTS)
