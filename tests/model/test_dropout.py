"""The fast dropout against PyTorch's own: same fractions, same mean, same gradient, and everything else unchanged."""

import pytest
import torch
from torch import nn

from trainer.model.optimizations.dropout import FastDropout, use_fast_dropout

SHAPES = [(1_000_003,), (100, 77, 13), (3, 0)]


def dropped_share(module, count=1_000_000):
    torch.manual_seed(1)
    return (module(torch.ones(count)) == 0).double().mean().item()


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_share_and_mean_are_those_of_torch(p):
    deviation = (p * (1 - p) / 1_000_000) ** 0.5
    assert dropped_share(FastDropout(p)) == pytest.approx(p, abs=5 * deviation)
    assert dropped_share(nn.Dropout(p)) == pytest.approx(p, abs=5 * deviation)
    mean = FastDropout(p)(torch.ones(1_000_000)).double().mean().item()
    assert mean == pytest.approx(1, abs=5 * deviation / (1 - p))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_values_are_kept_and_scaled_or_zero_whatever_the_shape(shape, dtype):
    x = torch.rand(shape, dtype=dtype) + 1
    out = FastDropout(0.25)(x)
    assert out.shape == x.shape
    assert out.dtype == dtype
    torch.testing.assert_close(out[out != 0], x[out != 0] / 0.75)


def test_neighbours_are_dropped_independently():
    kept = (FastDropout(0.5)(torch.ones(1_000_000)) != 0).double() - 0.5
    for distance in (1, 2, 3, 4, 64):
        assert abs((kept[distance:] * kept[:-distance]).mean().item()) < 5 * 0.25 / 1000


def test_the_gradient_is_that_of_what_was_kept():
    x = torch.ones(1000, requires_grad=True)
    out = FastDropout(0.3)(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_a_seed_repeats_the_numbers():
    module, x = FastDropout(0.4), torch.ones(999)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = module(x), module(x)
    torch.set_rng_state(state)
    assert torch.equal(first, module(x))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_nothing_and_everything_are_torchs(p):
    x = torch.ones(10)
    assert torch.equal(FastDropout(p)(x), nn.functional.dropout(x, p))


def test_evaluation_changes_nothing():
    x = torch.ones(10)
    assert FastDropout(0.5).eval()(x) is x


def test_it_replaces_every_dropout_of_one_model():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.3), nn.Dropout2d(0.2))).eval()
    other = nn.Dropout(0.3)
    keys = list(model.state_dict())
    use_fast_dropout(model)
    assert type(model[1][0]) is FastDropout
    assert (model[1][0].p, model[1][0].training) == (0.3, False)
    assert type(model[1][1]) is nn.Dropout2d
    assert type(other) is nn.Dropout
    assert list(model.state_dict()) == keys
