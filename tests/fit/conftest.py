import pytest
from tiny_loop import make_splits, reset_accelerate


@pytest.fixture(scope="session")
def splits():
    """Train and dev splits, which no test changes."""
    return make_splits()


@pytest.fixture(autouse=True)
def fresh_accelerate():
    yield
    reset_accelerate()
