"""Every loss of the table keeps these rules; a new entry is under them without a change here."""

import itertools
import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.model.config import LossConfig
from trainer.model.losses import functions
from trainer.model.losses.functions import reduce_sum, smooth
from trainer.model.losses.loss import build_loss
from trainer.model.losses.table import (
    LOSSES,
    entry_of,
    help_text,
    losses_that_read,
    settings_of,
    unused_settings,
)

WEIGHTS = np.array([0.3, 1.0, 1.7])
# A value of every setting that changes a loss that reads it; weights of labels are tested apart.
CHANGED = {
    "gamma_pos": 1.5,
    "gamma_neg": 3.3,
    "margin": 0.2,
    "alpha": 0.6,
    "gamma": 1.2,
    "ratio": 0.2,
    "label_smoothing": 0.2,
}
GAMMAS = (0.0, 0.01, 0.3, 1.0, 2.5)
every_loss = pytest.mark.parametrize("loss", LOSSES)


def cells(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=generator, dtype=dtype) * 2
    y = (torch.rand(6, 3, generator=generator) < 0.4).to(dtype)
    return logits, y, torch.ones(6, 3, dtype=torch.bool)


def make(loss, **changes):
    return build_loss(LossConfig(loss=loss, **changes), WEIGHTS)


def focused(loss, gamma, margin):
    return make(loss, gamma_pos=gamma, gamma_neg=gamma, gamma=gamma, margin=margin)


@every_loss
class TestEveryLoss:
    def test_cells_are_not_negative(self, loss):
        assert (make(loss).elementwise(*cells()) >= 0).all()

    def test_soft_labels_mix_the_two_terms(self, loss):
        z, y, mask = cells()
        term = [make(loss).elementwise(z, torch.full_like(y, value), mask) for value in (0.0, 0.25, 1.0)]
        torch.testing.assert_close(term[1], 0.75 * term[0] + 0.25 * term[2])

    def test_smoothing_is_a_change_of_labels(self, loss):
        z, y, mask = cells()
        smoothed = make(loss, label_smoothing=0.1).elementwise(z, y, mask)
        torch.testing.assert_close(smoothed, make(loss).elementwise(z, smooth(y, 0.1), mask))

    def test_a_better_logit_costs_less(self, loss):
        z = torch.linspace(-6, 6, 50).repeat(3, 1).T
        mask = torch.ones_like(z, dtype=torch.bool)
        positive = make(loss).elementwise(z, torch.ones_like(z), mask)
        negative = make(loss).elementwise(z, torch.zeros_like(z), mask)
        assert (positive.diff(dim=0) < 0).all()
        assert (negative.diff(dim=0) >= 0).all()
        assert (negative[-1] > negative[0]).all()

    def test_gradient_is_the_derivative(self, loss):
        z, y, mask = cells(dtype=torch.float64)
        y[0] = 0.4
        z.requires_grad_()
        for gamma, margin in itertools.product((0.0, 0.3, 2.5), (0.0, 0.05)):
            one = focused(loss, gamma, margin)
            assert torch.autograd.gradcheck(lambda x, one=one: one(x, y, mask), z), (gamma, margin)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    def test_loss_and_gradient_are_finite_everywhere(self, loss, dtype):
        for gamma, margin in itertools.product(GAMMAS, (0.0, 1e-30, 0.05, 0.5)):
            edge = math.log(margin / (1 - margin)) if margin else 0.0
            values = torch.tensor(
                [-1e4, -100, -88, -20, 0, 20, 88, 100, 1e4, edge, edge + 1e-6, edge + 1e-3], dtype=dtype
            )
            z = values.repeat(3, 1).T.repeat(3, 1).requires_grad_()
            y = torch.tensor([0.0, 0.5, 1.0], dtype=dtype).repeat_interleave(len(values)).repeat(3, 1).T
            cell = focused(loss, gamma, margin).elementwise(z, y, torch.ones_like(y, dtype=torch.bool))
            cell.sum().backward()
            assert cell.dtype == dtype
            assert torch.isfinite(cell).all(), (gamma, margin)
            assert torch.isfinite(z.grad).all(), (gamma, margin)

    @pytest.mark.parametrize("garbage", [1e30, -1e30, math.inf, math.nan])
    def test_masked_cells_are_exactly_zero(self, loss, garbage):
        z, y, mask = cells()
        mask[2] = False
        mask[4, 1] = False
        dirty = torch.where(mask, z, garbage).requires_grad_()
        losses = make(loss).elementwise(dirty, torch.where(mask, y, garbage), mask)
        losses.sum().backward()
        assert torch.equal(losses, make(loss).elementwise(z, y, mask))
        assert (losses[~mask] == 0).all()
        assert (dirty.grad[~mask] == 0).all()
        assert (dirty.grad[mask] != 0).any()

    def test_two_halves_add_up_to_the_whole(self, loss):
        z, y, mask = cells()
        one = make(loss)
        halves = one(z[:3], y[:3], mask[:3]) + one(z[3:], y[3:], mask[3:])
        torch.testing.assert_close(halves, one(z, y, mask))
        torch.testing.assert_close(reduce_sum(one.elementwise(z, y, mask)), one(z, y, mask))

    def test_bfloat16_logits_are_computed_in_float32(self, loss):
        z, y, mask = cells()
        low = z.to(torch.bfloat16)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = make(loss).elementwise(low, y, mask)
        assert losses.dtype == torch.float32
        assert torch.equal(losses, make(loss).elementwise(low.float(), y, mask))

    def test_the_settings_of_its_entry_and_no_others_change_it(self, loss):
        plain = make(loss, class_weights="none")(*cells())
        live = {name for name, value in CHANGED.items() if make(loss, **{name: value})(*cells()) != plain}
        assert live == settings_of(loss) & set(CHANGED)
        assert unused_settings(loss, {*CHANGED, "loss"}) == sorted(set(CHANGED) - live)

    def test_class_weights_count_where_its_entry_says_so(self, loss):
        unweighted = build_loss(LossConfig(loss=loss), np.ones(3))(*cells())
        assert bool(make(loss)(*cells()) != unweighted) is entry_of(loss).has_class_weights
        assert ("class_weights" in settings_of(loss)) is entry_of(loss).has_class_weights

    def test_its_function_and_its_help_exist(self, loss):
        assert callable(getattr(functions, loss))
        assert f"{loss}: {entry_of(loss).help}" in help_text()


@given(st.sampled_from(LOSSES), st.permutations(range(6)), st.permutations(range(3)))
def test_order_of_examples_and_labels_does_not_matter(loss, rows, labels):
    z, y, mask = cells()
    mask[1, 2] = False
    whole = make(loss).elementwise(z, y, mask)[rows][:, labels]
    moved = [part[rows][:, labels] for part in (z, y, mask)]
    torch.testing.assert_close(build_loss(LossConfig(loss=loss), WEIGHTS[labels]).elementwise(*moved), whole)


def test_every_setting_is_read_by_some_loss():
    named = {field.name for field in fields(LossConfig)} - {"loss"}
    assert frozenset().union(*map(settings_of, LOSSES)) == named
    assert set(CHANGED) == named - {"class_weights", "effective_number_beta"}
    assert losses_that_read("ratio") == ("combined",)
    assert losses_that_read("label_smoothing") == LOSSES
