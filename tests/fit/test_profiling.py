"""Size and latency of a model, on a clock of the test."""

import itertools

import numpy as np
import pytest
import torch
from tiny_loop import make_model, make_split

from trainer.fit import profiling
from trainer.fit.profiling import measure_cost

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """Have each pass take so many seconds, in turn."""

    def install(seconds):
        ticks = itertools.accumulate(itertools.chain([0.0], *((0.0, taken) for taken in seconds)))
        next(ticks)
        monkeypatch.setattr(profiling.time, "perf_counter", lambda: next(ticks))

    return install


def test_parameters_and_their_bytes_are_counted():
    model = torch.nn.Linear(10, 4)
    model.forward = lambda *_: None
    found = measure_cost(model, make_split(8, 0), CPU)
    assert found["model/parameters"] == 44
    assert found["model/size_mb"] == 44 * 4 / 1e6
    assert found["model/latency_ms"] > 0


def test_the_time_is_the_median_in_ms_without_the_warm_up(clock):
    clock([100.0] * 5 + [0.002] * 26 + [50.0] * 24)
    assert measure_cost(make_model(), make_split(200, 0), CPU)["model/latency_ms"] == pytest.approx(2)


@pytest.mark.parametrize(("count", "timed"), [(200, 50), (12, 12), (1, 1)])
def test_single_examples_spread_over_the_split_are_timed(count, timed):
    model, examples = make_model(), make_split(count, 0)
    model.train()
    seen = []

    def forward(input_ids, attention_mask):
        assert not model.training
        assert torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")
        assert attention_mask.all()
        seen.append(input_ids.tolist())

    model.forward = forward
    measure_cost(model, examples, CPU)
    assert {len(batch) for batch in seen} == {1}
    assert len(seen) == min(5, timed) + timed
    ids = [ids for (ids,) in seen[-timed:]]
    expected = np.linspace(0, count - 1, timed).astype(int)
    assert ids == [examples.batch(np.array([row]), CPU).input_ids[0].tolist() for row in expected]
