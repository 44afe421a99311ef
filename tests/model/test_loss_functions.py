"""The loss functions against closed forms, PyTorch, and the formulas of their papers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from trainer.model.config import LossConfig
from trainer.model.losses.functions import asl, smooth
from trainer.model.losses.loss import build_loss

WEIGHTS = np.array([0.3, 1.0, 1.7])


def cells(rows=6, labels=3, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, labels, generator=generator, dtype=dtype) * 2
    y = (torch.rand(rows, labels, generator=generator) < 0.4).to(dtype)
    return logits, y, torch.ones(rows, labels, dtype=torch.bool)


def make(loss, **changes):
    return build_loss(LossConfig(loss=loss, **changes), WEIGHTS)


def sum_at_one_half(loss, positives, labels=28, **settings):
    """Loss of a row of `labels` cells at p = 1/2 of which `positives` (may be a fraction) are positive."""
    y = torch.full((1, labels), positives / labels, dtype=torch.float64)
    config = LossConfig(loss=loss, **settings)
    return float(build_loss(config, np.ones(labels))(torch.zeros(1, labels, dtype=torch.float64), y, y >= 0))


class TestClosedForms:
    @pytest.mark.parametrize(("gamma_neg", "gamma_pos", "expected"), [(2, 1, 3.655), (1, 0, 8.032), (4, 0, 1.473)])
    def test_asl_at_one_half(self, gamma_neg, gamma_pos, expected):
        actual = sum_at_one_half("asl", 1.177, gamma_neg=gamma_neg, gamma_pos=gamma_pos, margin=0.05)
        assert actual == pytest.approx(expected, abs=5e-4)

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
        actual = make("asl", gamma_pos=1, gamma_neg=4, margin=0.05).elementwise(z, y, mask)
        torch.testing.assert_close(actual, expected)

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


def test_a_margin_of_almost_nothing_is_no_margin():
    sample = cells(dtype=torch.float64)
    config = LossConfig(loss="asl", margin=0.0)
    torch.testing.assert_close(
        build_loss(replace(config, margin=1e-12), WEIGHTS)(*sample), build_loss(config, WEIGHTS)(*sample)
    )
