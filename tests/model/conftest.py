import pytest
from tiny_models import ARCHITECTURES, save_model


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory):
    """Architecture → folder of a tiny model."""
    root = tmp_path_factory.mktemp("models")
    return {name: save_model(root / name, name) for name in ARCHITECTURES}


@pytest.fixture
def own_model(tmp_path):
    """A tiny BERT that the test may damage."""
    return save_model(tmp_path / "own")
