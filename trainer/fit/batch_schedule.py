"""The examples of each optimizer step."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trainer.data.batching import length_grouped_batches, token_budget_batches
from trainer.fit.config import FitConfig

__all__ = ["BatchSchedule"]


@dataclass(frozen=True)
class BatchSchedule:
    """The batches of a training, a function of lengths, settings and seed: equal on every process and when resumed."""

    lengths: NDArray[np.int64]
    """(n,) tokens of each train example."""
    config: FitConfig
    seed: int
    stop_fraction: float = 1.0
    """Fraction of the steps after which training stops, in (0, 1]; the learning rate follows the whole schedule."""

    def epoch(self, number: int) -> list[NDArray[np.int64]]:
        """Return the indices of the examples of each step of an epoch, counted from 0."""
        if self.config.tokens_per_batch:
            return token_budget_batches(self.lengths, self.config.tokens_per_batch, seed=self.seed, epoch=number)
        return length_grouped_batches(self.lengths, self.config.batch_size, seed=self.seed, epoch=number)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch, the same number in every epoch."""
        return len(self.epoch(0))  # an epoch changes the order alone

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole schedule."""
        return self.steps_per_epoch * self.config.epochs

    @property
    def last_step(self) -> int:
        """The step after which training stops, unless early stopping ends it before."""
        # At least 1: a run without a step has no weights to keep.
        return max(1, round(self.stop_fraction * self.total_steps))

    @property
    def longest(self) -> NDArray[np.int64]:
        """Indices of the longest examples, as many as fit into one step."""
        # Stable: ties have the same order on every machine.
        tokens, order = self.config.tokens_per_batch, np.argsort(-self.lengths, kind="stable")
        count = max(1, tokens // int(self.lengths[order[0]])) if tokens else self.config.batch_size
        return order[:count]

    @property
    def examples_per_step(self) -> float | None:
        """The divisor of a step's loss; None divides by the step's own number of examples.

        Steps with a fixed number of tokens contain more examples where texts are short. The mean of such a step would
        weight a short text less than a long one; division by the average number of examples weights all equally.
        """
        return len(self.lengths) / self.steps_per_epoch if self.config.tokens_per_batch else None
