"""Losses for independent labels under imbalance, cell by cell.

Each takes logits (b, k), labels (b, k) in [0, 1] and mask (b, k), and returns (b, k) in float32 (float64 stays so).
A soft label mixes the loss of a positive and of a negative: y * positive + (1 - y) * negative.
A cell with mask False is exactly 0 and sends back a gradient of exactly 0, whatever stands in it.
Powers of probabilities are taken as exp(gamma * log p): finite, with finite gradients, for every gamma >= 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from trainer.model.config import LossConfig

__all__ = ["Loss", "asl", "bce", "build", "combined", "focal", "reduce_sum", "smooth", "weighted_bce"]

CellLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


def bce(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy: -y log p - (1 - y) log(1 - p), p = sigmoid(logit)."""
    logits, labels = _clean(logits, labels, mask)
    return _mix(-logsigmoid(logits), -logsigmoid(-logits), labels, mask)


def weighted_bce(logits: Tensor, labels: Tensor, mask: Tensor, *, weights: Tensor) -> Tensor:
    """`bce` times the weight of its label, weights (k,).

    The weight scales positives and negatives of a label alike (torch's `weight`, not its `pos_weight`): rare labels
    count more against frequent ones, and the best probability of each label stays its true one.
    """
    return bce(logits, labels, mask) * weights


def focal(logits: Tensor, labels: Tensor, mask: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Focal loss: alpha_t (1 - p_t)^gamma (-log p_t), with alpha_t = alpha for y = 1 and 1 - alpha for y = 0.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002.
    """
    logits, labels = _clean(logits, labels, mask)
    log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)
    positive = -alpha * torch.exp(gamma * log_not_p) * log_p
    negative = -(1 - alpha) * torch.exp(gamma * log_p) * log_not_p
    return _mix(positive, negative, labels, mask)


def asl(logits: Tensor, labels: Tensor, mask: Tensor, *, gamma_pos: float, gamma_neg: float, margin: float) -> Tensor:
    """Asymmetric loss: y (1 - p)^gamma_pos (-log p) + (1 - y) p_m^gamma_neg (-log(1 - p_m)), p_m = max(p - margin, 0).

    The margin moves negatives only. Source: Ben-Baruch et al. 2020, https://arxiv.org/abs/2009.14119.
    """
    logits, labels = _clean(logits, labels, mask)
    log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)
    positive = -torch.exp(gamma_pos * log_not_p) * log_p
    return _mix(positive, _shifted_negative(log_p, log_not_p, gamma_neg, margin), labels, mask)


def combined(logits: Tensor, labels: Tensor, mask: Tensor, *, weights: Tensor, config: LossConfig) -> Tensor:
    """Mix in each cell, before any reduction: ratio * `asl` + (1 - ratio) * weights (k,) * `focal`."""
    c = config
    asymmetric = asl(logits, labels, mask, gamma_pos=c.gamma_pos, gamma_neg=c.gamma_neg, margin=c.margin)
    return c.ratio * asymmetric + (1 - c.ratio) * weights * focal(logits, labels, mask, alpha=c.alpha, gamma=c.gamma)


def smooth(labels: Tensor, amount: float) -> Tensor:
    """Labels of independent yes-or-no questions, pulled towards 1/2: y (1 - amount) + amount / 2."""
    return labels * (1 - amount) + amount / 2


def reduce_sum(losses: Tensor) -> Tensor:
    """Sum over rows and labels. Divided by the examples of a whole step it is the mean over examples."""
    return losses.sum()


@dataclass(frozen=True, eq=False)
class Loss:
    """The loss of a configuration, for logits, labels and mask (b, k)."""

    config: LossConfig
    class_weights: Tensor

    def elementwise(self, logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """(b, k), in float32 also inside autocast."""
        with torch.autocast(logits.device.type, enabled=False):
            labels = smooth(labels.to(_precision(logits)), self.config.label_smoothing)
            return self._cells(self.class_weights.to(logits.device, _precision(logits)))(logits, labels, mask)

    def __call__(self, logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Sum over rows and labels, a scalar."""
        return reduce_sum(self.elementwise(logits, labels, mask))

    def _cells(self, weights: Tensor) -> CellLoss:
        c = self.config
        table: dict[str, CellLoss] = {
            "bce": bce,
            "weighted_bce": lambda z, y, m: weighted_bce(z, y, m, weights=weights),
            "focal": lambda z, y, m: focal(z, y, m, alpha=c.alpha, gamma=c.gamma),
            "asl": lambda z, y, m: asl(z, y, m, gamma_pos=c.gamma_pos, gamma_neg=c.gamma_neg, margin=c.margin),
            "combined": lambda z, y, m: combined(z, y, m, weights=weights, config=c),
        }
        return table[c.loss]


def build(config: LossConfig, class_weights: npt.NDArray[np.float64]) -> Loss:
    """The loss of `config` with weights (k,) from `trainer.model.class_weights`; a loss that has none ignores them."""
    return Loss(config, torch.from_numpy(np.asarray(class_weights, dtype=np.float64)))


def _precision(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _clean(logits: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    # Masked cells become ordinary numbers first: 0 * infinity would be NaN on the way back.
    precision = _precision(logits)
    return torch.where(mask, logits.to(precision), 0.0), torch.where(mask, labels.to(precision), 0.0)


def _mix(positive: Tensor, negative: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, labels * positive + (1 - labels) * negative, 0.0)


def _shifted_negative(log_p: Tensor, log_not_p: Tensor, gamma: float, margin: float) -> Tensor:
    if margin == 0:
        return -torch.exp(gamma * log_p) * log_not_p
    # 1 - p_m = min(1 - p + margin, 1), kept as a logarithm so that it is exact near 0
    log_not_shifted = torch.logaddexp(log_not_p, torch.full_like(log_not_p, math.log(margin))).clamp(max=0)
    shifted = -torch.expm1(log_not_shifted)
    above = shifted > 0
    log_shifted = torch.log(torch.where(above, shifted, 1.0))
    return torch.where(above, -torch.exp(gamma * log_shifted) * log_not_shifted, 0.0)
