"""Which rows each optimizer step of a training takes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trainer.data.batching import epoch_plan, token_plan
from trainer.fit.config import FitConfig

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """The steps of a training on rows of these lengths (n,), in pieces; the same on every process and when resumed."""

    lengths: NDArray[np.int64]
    config: FitConfig
    seed: int
    share: float = 1.0
    """Share of the steps that are taken, in (0, 1]; the learning rate follows all of them."""

    def epoch(self, number: int) -> list[NDArray[np.int64]]:
        """Rows of each step of an epoch, which is counted from 0."""
        if self.config.tokens_per_batch:
            return token_plan(self.lengths, self.config.tokens_per_batch, seed=self.seed, epoch=number)
        return epoch_plan(self.lengths, self.config.batch_size, seed=self.seed, epoch=number)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the rows, alike in every epoch."""
        return len(self.epoch(0))

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the schedule."""
        return self.steps_per_epoch * self.config.epochs

    @property
    def last_step(self) -> int:
        """Optimizer steps when dev does not stop training before."""
        return max(1, round(self.share * self.total_steps))

    @property
    def longest(self) -> NDArray[np.int64]:
        """As many of the longest rows as a step may take."""
        tokens, order = self.config.tokens_per_batch, np.argsort(-self.lengths, kind="stable")
        count = max(1, tokens // int(self.lengths[order[0]])) if tokens else self.config.batch_size
        return order[:count]

    @property
    def rows_per_step(self) -> float | None:
        """What the loss of a step is divided by; None = its own number of rows.

        Steps of equally many pieces have more rows where texts are short. Divided by the number of rows, a short text
        would count less than a long one; divided by what a step has on average, all count alike.
        """
        return len(self.lengths) / self.steps_per_epoch if self.config.tokens_per_batch else None
