"""A process of a run and its threads."""

import pytest
import torch

from trainer.fit.distributed import open_context


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_torch_uses_the_threads_of_the_environment_though_it_was_loaded_before(number, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(number))
    open_context("fp32", seed=7)
    assert torch.get_num_threads() == number
