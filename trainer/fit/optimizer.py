"""Optimizer, learning-rate schedule, and the moving average of weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from trainer.fit.config import FitConfig

__all__ = ["MovingAverage", "build_optimizer", "build_schedule"]


def build_optimizer(groups: list[dict[str, Any]]) -> AdamW:
    """AdamW (Loshchilov & Hutter 2019) over groups with their own `lr` and `weight_decay`, fused into one kernel."""
    return AdamW(groups, fused=True)


def build_schedule(optimizer: AdamW, config: FitConfig, total_steps: int) -> LambdaLR:
    """The schedule of transformers by that name, with `warmup_ratio` of the steps as warmup."""
    name = "constant_with_warmup" if config.schedule == "constant" else config.schedule
    restarts = {"num_cycles": config.restarts} if config.schedule == "cosine_with_restarts" else None
    schedule: LambdaLR = get_scheduler(
        name,
        optimizer,
        num_warmup_steps=round(config.warmup_ratio * total_steps),
        num_training_steps=total_steps,
        scheduler_specific_kwargs=restarts,
    )
    return schedule


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
        """Move the averages towards the parameters after optimizer step `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.averages, self._parameters, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the parameters have the values of the averages."""
        kept = [parameter.detach().clone() for parameter in self._parameters]
        self._copy(self.averages)
        try:
            yield
        finally:
            self._copy(kept)

    def load(self, averages: Sequence[torch.Tensor]) -> None:
        """Take up saved averages."""
        torch._foreach_copy_(self.averages, list(averages))

    @torch.no_grad()
    def _copy(self, values: Sequence[torch.Tensor]) -> None:
        torch._foreach_copy_(self._parameters, list(values))
