"""The interface of a head and the one head of today, a linear layer."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

__all__ = ["Head", "LinearHead"]

_LOWEST_FREQUENCY = 1e-4  # a label of every example would have infinite log-odds


class Head(Protocol):
    """A module that the classifier and its optimizer groups can use as head."""

    @property
    def num_logits(self) -> int:
        """Logits per text."""

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return logits (b, num_logits). vectors: (b, hidden), float32."""

    def init_bias(self, frequencies: npt.NDArray[np.float64]) -> None:
        """Make the untrained head predict these frequencies (num_logits,)."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Return the parameters, which have a learning rate of their own."""


class LinearHead(nn.Linear):
    """One logit per label, each a linear function of the vector. Parameters: `weight`, `bias`."""

    def __init__(self, hidden_size: int, num_labels: int) -> None:
        super().__init__(hidden_size, num_labels)
        nn.init.normal_(self.weight, std=0.02)  # as BERT initializes
        nn.init.zeros_(self.bias)

    @property
    def num_logits(self) -> int:
        """Logits per text, one per label."""
        return self.out_features

    @torch.no_grad()
    def init_bias(self, frequencies: npt.NDArray[np.float64]) -> None:
        """Set the bias to the log-odds of the labels' frequencies (k,), clipped to [0.0001, 0.9999]."""
        clipped = np.clip(frequencies, _LOWEST_FREQUENCY, 1 - _LOWEST_FREQUENCY)
        self.bias.copy_(torch.from_numpy(np.log(clipped) - np.log1p(-clipped)))


_: type[Head] = LinearHead  # for mypy: every head has the interface
