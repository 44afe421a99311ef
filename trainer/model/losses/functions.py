"""Element-wise losses for independent labels; `trainer.model.losses.table` lists them.

Each takes logits (b, k), labels (b, k) in [0, 1] and mask (b, k), and its settings as keywords. It returns (b, k) in
float32; float64 stays float64. A soft label mixes the loss of a positive and of a negative:
y * positive + (1 - y) * negative. A cell with mask False is exactly 0 and has a gradient of exactly 0, whatever it
contains. Powers of probabilities are computed as exp(gamma * log p): finite, with finite gradients, for gamma >= 0.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["asl", "bce", "combined", "focal", "precision_of", "reduce_sum", "smooth", "weighted_bce"]


def bce(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Return the binary cross-entropy: -y log p - (1 - y) log(1 - p), p = sigmoid(logit)."""
    logits, labels = _clean(logits, labels, mask)
    return _mix(-logsigmoid(logits), -logsigmoid(-logits), labels, mask)


def weighted_bce(logits: Tensor, labels: Tensor, mask: Tensor, *, weights: Tensor) -> Tensor:
    """Return `bce` times the weight of each label, weights (k,).

    The weight scales positives and negatives of a label alike (torch's `weight`, not its `pos_weight`): rare labels
    count more against frequent ones, and the best probability of each label stays its true one.
    """
    return bce(logits, labels, mask) * weights


def focal(logits: Tensor, labels: Tensor, mask: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Return the focal loss: alpha_t (1 - p_t)^gamma (-log p_t), where alpha_t is alpha for y = 1, else 1 - alpha.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002.
    """
    logits, labels = _clean(logits, labels, mask)
    log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)
    positive = -alpha * torch.exp(gamma * log_not_p) * log_p
    negative = -(1 - alpha) * torch.exp(gamma * log_p) * log_not_p
    return _mix(positive, negative, labels, mask)


def asl(logits: Tensor, labels: Tensor, mask: Tensor, *, gamma_pos: float, gamma_neg: float, margin: float) -> Tensor:
    """Return the asymmetric loss: y (1 - p)^gamma_pos (-log p) + (1 - y) p_m^gamma_neg (-log(1 - p_m)).

    p_m = max(p - margin, 0): the margin changes the loss of negatives only. Source: Ben-Baruch et al. 2020, https://arxiv.org/abs/2009.14119.
    """
    logits, labels = _clean(logits, labels, mask)
    log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)
    positive = -torch.exp(gamma_pos * log_not_p) * log_p
    return _mix(positive, _shifted_negative(log_p, log_not_p, gamma_neg, margin), labels, mask)


def combined(  # noqa: PLR0913  # the settings of both losses
    logits: Tensor,
    labels: Tensor,
    mask: Tensor,
    *,
    weights: Tensor,
    alpha: float,
    gamma: float,
    gamma_pos: float,
    gamma_neg: float,
    margin: float,
    ratio: float,
) -> Tensor:
    """Mix two losses in each cell, before any reduction: ratio * `asl` + (1 - ratio) * weights (k,) * `focal`."""
    asymmetric = asl(logits, labels, mask, gamma_pos=gamma_pos, gamma_neg=gamma_neg, margin=margin)
    return ratio * asymmetric + (1 - ratio) * weights * focal(logits, labels, mask, alpha=alpha, gamma=gamma)


def smooth(labels: Tensor, amount: float) -> Tensor:
    """Return the labels moved towards 1/2, as for independent binary labels: y (1 - amount) + amount / 2."""
    return labels * (1 - amount) + amount / 2


def reduce_sum(losses: Tensor) -> Tensor:
    """Return the sum over examples and labels; the training step divides it by the examples of the whole step."""
    return losses.sum()


def precision_of(logits: Tensor) -> torch.dtype:
    """Return the precision that losses are computed in."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _clean(logits: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    # Masked cells become ordinary numbers first: 0 * infinity would be NaN on the way back.
    precision = precision_of(logits)
    return torch.where(mask, logits.to(precision), 0.0), torch.where(mask, labels.to(precision), 0.0)


def _mix(positive: Tensor, negative: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, labels * positive + (1 - labels) * negative, 0.0)


def _shifted_negative(log_p: Tensor, log_not_p: Tensor, gamma: float, margin: float) -> Tensor:
    if margin == 0:  # log(0) raises
        return -torch.exp(gamma * log_p) * log_not_p
    # 1 - p_m = min(1 - p + margin, 1), kept as a logarithm so that it is exact near 0
    log_not_shifted = torch.logaddexp(log_not_p, torch.full_like(log_not_p, math.log(margin))).clamp(max=0)
    shifted = -torch.expm1(log_not_shifted)
    above = shifted > 0
    # The inner where keeps log(0) out: its infinite gradient times 0 would be NaN.
    log_shifted = torch.log(torch.where(above, shifted, 1.0))
    return torch.where(above, -torch.exp(gamma * log_shifted) * log_not_shifted, 0.0)
