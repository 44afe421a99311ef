import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from trainer.model.config import LOSSES, USED_BY, LossConfig
from trainer.model.losses import asl, build, reduce_sum, smooth

WEIGHTS = np.array([0.3, 1.0, 1.7])
CHANGED = {
    "gamma_pos": 1.5,
    "gamma_neg": 3.3,
    "margin": 0.2,
    "alpha": 0.6,
    "gamma": 1.2,
    "ratio": 0.2,
    "label_smoothing": 0.2,
}


def cells(rows=6, labels=3, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, labels, generator=generator, dtype=dtype) * 2
    y = (torch.rand(rows, labels, generator=generator) < 0.4).to(dtype)
    return logits, y, torch.ones(rows, labels, dtype=torch.bool)


def make(loss, **changes):
    return build(LossConfig(loss=loss, **changes), WEIGHTS)


def sum_at_one_half(loss, positives, labels=28, **settings):
    """Loss of a row of `labels` cells at p = 1/2 of which `positives` (may be a fraction) are positive."""
    y = torch.full((1, labels), positives / labels, dtype=torch.float64)
    config = LossConfig(loss=loss, **settings)
    return float(build(config, np.ones(labels))(torch.zeros(1, labels, dtype=torch.float64), y, y >= 0))


class TestClosedForms:
    @pytest.mark.parametrize(("gamma_neg", "gamma_pos", "expected"), [(2, 1, 3.655), (1, 0, 8.032), (4, 0, 1.473)])
    def test_asl_at_one_half(self, gamma_neg, gamma_pos, expected):
        found = sum_at_one_half("asl", 1.177, gamma_neg=gamma_neg, gamma_pos=gamma_pos, margin=0.05)
        assert found == pytest.approx(expected, abs=5e-4)

    def test_bce_at_one_half_is_log_two_per_label(self):
        assert sum_at_one_half("bce", 1.177) == pytest.approx(28 * math.log(2))

    def test_focal_at_one_half(self):
        expected = (1.177 * 0.25 + (28 - 1.177) * 0.75) * 0.25 * math.log(2)
        assert sum_at_one_half("focal", 1.177, alpha=0.25, gamma=2.0) == pytest.approx(expected)

    def test_margin_moves_negatives_only(self):
        logits = torch.tensor([[math.log(0.04 / 0.96), 4.0]], dtype=torch.float64)
        y = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
        losses = asl(logits, y, y >= 0, gamma_pos=0, gamma_neg=1, margin=0.05)
        assert losses[0, 0] == 0
        assert float(losses[0, 1]) == pytest.approx(math.log1p(math.exp(-4)))

    def test_smoothing_is_that_of_independent_labels(self):
        assert smooth(torch.tensor([0.0, 0.5, 1.0]), 0.1).tolist() == pytest.approx([0.05, 0.5, 0.95])


class TestParity:
    def test_bce_is_torchs(self):
        z, y, mask = cells()
        expected = functional.binary_cross_entropy_with_logits(z, y, reduction="none")
        torch.testing.assert_close(make("bce").elementwise(z, y, mask), expected)

    def test_weighted_bce_is_torchs_with_weight(self):
        z, y, mask = cells()
        weight = torch.tensor(WEIGHTS, dtype=torch.float32)
        expected = functional.binary_cross_entropy_with_logits(z, y, weight=weight, reduction="none")
        torch.testing.assert_close(make("weighted_bce").elementwise(z, y, mask), expected)

    def test_focal_is_torchvisions_formula(self):
        z, y, mask = cells()
        p = torch.sigmoid(z)
        p_t = p * y + (1 - p) * (1 - y)
        ce = functional.binary_cross_entropy_with_logits(z, y, reduction="none")
        expected = (0.3 * y + 0.7 * (1 - y)) * ce * (1 - p_t) ** 1.5
        torch.testing.assert_close(make("focal", alpha=0.3, gamma=1.5).elementwise(z, y, mask), expected)

    def test_asl_is_the_official_code(self):
        z, y, mask = cells(dtype=torch.float64)
        p = torch.sigmoid(z)
        negative = (1 - p + 0.05).clamp(max=1)
        base = y * torch.log(p) + (1 - y) * torch.log(negative)
        expected = -base * (1 - p * y - negative * (1 - y)) ** (1 * y + 4 * (1 - y))
        found = make("asl", gamma_pos=1, gamma_neg=4, margin=0.05).elementwise(z, y, mask)
        torch.testing.assert_close(found, expected)

    def test_combined_weighs_each_cell_before_the_sum(self):
        z, y, mask = cells()
        parts = [make(loss).elementwise(z, y, mask) for loss in ("asl", "focal")]
        expected = 0.7 * parts[0] + 0.3 * torch.tensor(WEIGHTS, dtype=torch.float32) * parts[1]
        torch.testing.assert_close(make("combined").elementwise(z, y, mask), expected)

    def test_equal_focus_and_no_margin_reduce_to_bce(self):
        z, y, mask = cells()
        plain = make("bce").elementwise(z, y, mask)
        free = make("asl", gamma_pos=0, gamma_neg=0, margin=0).elementwise(z, y, mask)
        torch.testing.assert_close(free, plain)
        torch.testing.assert_close(2 * make("focal", alpha=0.5, gamma=0).elementwise(z, y, mask), plain)


class LossContract:
    """What every loss keeps to; each class below adds one to the list."""

    loss: str

    def test_cells_are_not_negative(self):
        assert (make(self.loss).elementwise(*cells()) >= 0).all()

    def test_soft_labels_mix_the_two_terms(self):
        z, y, mask = cells()
        term = [make(self.loss).elementwise(z, torch.full_like(y, value), mask) for value in (0.0, 0.25, 1.0)]
        torch.testing.assert_close(term[1], 0.75 * term[0] + 0.25 * term[2])

    def test_smoothing_is_a_change_of_labels(self):
        z, y, mask = cells()
        found = make(self.loss, label_smoothing=0.1).elementwise(z, y, mask)
        torch.testing.assert_close(found, make(self.loss).elementwise(z, smooth(y, 0.1), mask))

    def test_a_better_logit_costs_less(self):
        z = torch.linspace(-6, 6, 50).repeat(3, 1).T
        mask = torch.ones_like(z, dtype=torch.bool)
        positive = make(self.loss).elementwise(z, torch.ones_like(z), mask)
        negative = make(self.loss).elementwise(z, torch.zeros_like(z), mask)
        assert (positive.diff(dim=0) < 0).all()
        assert (negative.diff(dim=0) >= 0).all()
        assert (negative[-1] > negative[0]).all()

    @pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.5])
    @pytest.mark.parametrize("margin", [0.0, 0.05])
    def test_gradient_is_the_derivative(self, gamma, margin):
        z, y, mask = cells(dtype=torch.float64)
        y[0] = 0.4
        loss = make(self.loss, gamma_pos=gamma, gamma_neg=gamma, gamma=gamma, margin=margin)
        assert torch.autograd.gradcheck(lambda x: loss(x, y, mask), z.requires_grad_())

    @pytest.mark.parametrize("gamma", [0.0, 0.01, 0.3, 1.0, 2.5])
    @pytest.mark.parametrize("margin", [0.0, 1e-30, 0.05, 0.5])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_is_finite_everywhere(self, gamma, margin, dtype):
        edge = math.log(margin / (1 - margin)) if margin else 0.0
        values = torch.tensor([-1e4, -100, -88, -20, 0, 20, 88, 100, 1e4, edge, edge + 1e-6, edge + 1e-3], dtype=dtype)
        z = values.repeat(3, 1).T.repeat(3, 1).requires_grad_()
        y = torch.tensor([0.0, 0.5, 1.0], dtype=dtype).repeat_interleave(len(values)).repeat(3, 1).T
        loss = make(self.loss, gamma_pos=gamma, gamma_neg=gamma, gamma=gamma, margin=margin)
        cell = loss.elementwise(z, y, torch.ones_like(y, dtype=torch.bool))
        cell.sum().backward()
        assert cell.dtype == dtype
        assert torch.isfinite(cell).all()
        assert torch.isfinite(z.grad).all()

    @pytest.mark.parametrize("garbage", [1e30, -1e30, math.inf, math.nan])
    def test_masked_cells_are_exactly_nothing(self, garbage):
        z, y, mask = cells()
        mask[2] = False
        mask[4, 1] = False
        dirty = torch.where(mask, z, garbage).requires_grad_()
        found = make(self.loss).elementwise(dirty, torch.where(mask, y, garbage), mask)
        found.sum().backward()
        clean = make(self.loss).elementwise(z, y, mask)
        assert torch.equal(found, clean)
        assert (found[~mask] == 0).all()
        assert (dirty.grad[~mask] == 0).all()
        assert (dirty.grad[mask] != 0).any()

    def test_two_halves_add_up_to_the_whole(self):
        z, y, mask = cells()
        loss = make(self.loss)
        halves = loss(z[:3], y[:3], mask[:3]) + loss(z[3:], y[3:], mask[3:])
        torch.testing.assert_close(halves, loss(z, y, mask))
        torch.testing.assert_close(reduce_sum(loss.elementwise(z, y, mask)), loss(z, y, mask))

    def test_bfloat16_logits_are_computed_in_float32(self):
        z, y, mask = cells()
        low = z.to(torch.bfloat16)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = make(self.loss).elementwise(low, y, mask)
        assert found.dtype == torch.float32
        assert torch.equal(found, make(self.loss).elementwise(low.float(), y, mask))

    def test_the_fields_it_reads_and_no_other_change_it(self):
        sample = cells()
        plain = make(self.loss, class_weights="none")(*sample)
        live = {
            name
            for name, value in CHANGED.items()
            if make(self.loss, class_weights="none", **{name: value})(*sample) != plain
        }
        assert live == USED_BY[self.loss] & set(CHANGED)

    def test_class_weights_count_where_they_should(self):
        sample = cells()
        config = LossConfig(loss=self.loss)
        same = build(config, WEIGHTS)(*sample) == build(config, np.ones(3))(*sample)
        assert bool(same) is ("class_weights" not in USED_BY[self.loss])


class TestBce(LossContract):
    loss = "bce"


class TestWeightedBce(LossContract):
    loss = "weighted_bce"


class TestFocal(LossContract):
    loss = "focal"


class TestAsl(LossContract):
    loss = "asl"


class TestCombined(LossContract):
    loss = "combined"


@given(st.sampled_from(LOSSES), st.permutations(range(6)), st.permutations(range(3)))
def test_order_of_rows_and_labels_does_not_matter(loss, rows, labels):
    z, y, mask = cells()
    mask[1, 2] = False
    whole = make(loss).elementwise(z, y, mask)[rows][:, labels]
    moved = [part[rows][:, labels] for part in (z, y, mask)]
    torch.testing.assert_close(build(LossConfig(loss=loss), WEIGHTS[labels]).elementwise(*moved), whole)


def test_every_loss_is_under_the_contract():
    assert sorted(case.loss for case in LossContract.__subclasses__()) == sorted(LOSSES) == sorted(USED_BY)


def test_every_field_is_read_by_some_loss():
    named = {field.name for field in fields(LossConfig)} - {"loss"}
    assert frozenset().union(*USED_BY.values()) == named
    assert set(CHANGED) == named - {"class_weights", "effective_number_beta"}


def test_a_margin_of_almost_nothing_is_no_margin():
    sample = cells(dtype=torch.float64)
    config = LossConfig(loss="asl", margin=0.0)
    torch.testing.assert_close(build(replace(config, margin=1e-12), WEIGHTS)(*sample), build(config, WEIGHTS)(*sample))
