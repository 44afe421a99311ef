"""The moving average of the weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

__all__ = ["MovingAverage"]


class MovingAverage:
    """Exponential moving average of parameters, with the early steps weighted less.

    The decay at step s is min(decay, (1 + s) / (10 + s)), as in TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float) -> None:
        self.decay = decay
        self._parameters: list[torch.Tensor] = list(parameters)
        self.averages = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the parameters after an optimizer step, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        # One call for all parameters; torch has no public name for it.
        torch._foreach_lerp_(self.averages, self._parameters, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Set the parameters to the averages inside the block."""
        # Copies, so that training continues with the same bits.
        kept = [parameter.detach().clone() for parameter in self._parameters]
        self._copy(self.averages)
        try:
            yield
        finally:
            self._copy(kept)

    def load(self, averages: Sequence[torch.Tensor]) -> None:
        """Copy saved averages into these."""
        torch._foreach_copy_(self.averages, list(averages))

    @torch.no_grad()
    def _copy(self, values: Sequence[torch.Tensor]) -> None:
        torch._foreach_copy_(self._parameters, list(values))
