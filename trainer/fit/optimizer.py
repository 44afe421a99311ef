"""Builds the optimizer and the schedule of learning rates."""

from typing import Any

from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from trainer.fit.config import FitConfig

__all__ = ["build_optimizer", "build_scheduler"]


def build_optimizer(groups: list[dict[str, Any]]) -> AdamW:
    """Return a fused AdamW (Loshchilov & Hutter 2019) over groups that set their `lr` and `weight_decay`."""
    return AdamW(groups, fused=True)


def build_scheduler(optimizer: AdamW, config: FitConfig, total_steps: int) -> LambdaLR:
    """Return the learning-rate schedule of transformers that `config.schedule` names, with its warmup."""
    # `constant` of transformers has no warmup.
    name = "constant_with_warmup" if config.schedule == "constant" else config.schedule
    # Only here: `linear` refuses num_cycles, and `cosine` gives it another meaning.
    restarts = {"num_cycles": config.restarts} if config.schedule == "cosine_with_restarts" else None
    scheduler: LambdaLR = get_scheduler(
        name,
        optimizer,
        num_warmup_steps=round(config.warmup_ratio * total_steps),
        num_training_steps=total_steps,
        scheduler_specific_kwargs=restarts,
    )
    return scheduler
