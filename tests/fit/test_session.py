"""What a process of a run computes with."""

import pytest
import torch

from trainer.fit.distributed import open_session


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_it_has_the_threads_that_are_asked_for_though_torch_was_loaded_before(number, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(number))
    open_session("fp32", seed=7)
    assert torch.get_num_threads() == number
