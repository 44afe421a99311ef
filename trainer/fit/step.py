"""One optimizer step: forward and backward over micro batches, clip, update."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size
from numpy.typing import NDArray
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from trainer.core.errors import ModelError
from trainer.data.batching import split_batch
from trainer.fit.distributed import Session, random_states, restore_random_states
from trainer.fit.inference import Batch, Examples

__all__ = ["LossFunction", "StepResult", "Stepper"]

LossFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits (b, k), labels (b, k), observed (b, k)) -> the loss summed over rows and labels."""


@dataclass(frozen=True)
class StepResult:
    """Tensors of a step, left on the device: loss summed over this process's share of the examples, gradient norm."""

    loss: torch.Tensor
    grad_norm: torch.Tensor


class Stepper:
    """Takes optimizer steps over given rows; `micro_batch_size` halves itself when memory runs out.

    The loss is divided by the examples of the whole step, over processes and micro batches, so neither the number
    of processes nor the size of the micro batches changes the gradient. With rows_per_step (see `Plan`) it is divided
    by that, and micro_batch_size bounds the pieces of a micro batch: those of so many of the longest examples.
    """

    def __init__(  # noqa: PLR0913  # the parts of a step
        self,
        model: nn.Module,
        optimizer: AdamW,
        schedule: LambdaLR,
        loss_function: LossFunction,
        session: Session,
        *,
        max_grad_norm: float,
        micro_batch_size: int,
        rows_per_step: float | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.micro_batch_size = micro_batch_size
        self._loss_function = loss_function
        self._session = session
        self._max_grad_norm = max_grad_norm
        self._rows_per_step = rows_per_step

    def rehearse(self, examples: Examples, rows: NDArray[np.int64]) -> None:
        """Forward and backward over the longest rows before training, to find the micro batch that fits.

        Leaves weights, gradients and random states as they were. Raises ModelError when the loss is not finite.
        """
        states = random_states()
        while True:
            try:
                # AdamW makes its two moments in the first step, and they must have room beside the batch.
                moments = [torch.empty_like(parameter) for parameter in self.model.parameters() for _ in range(2)]
                batch = examples.batch(rows[: self.micro_batch_size], self._session.device)
                with self._session.accelerator.no_sync(self.model):
                    loss = self._backward(batch, len(rows))
                del moments
                break
            except RuntimeError as error:
                self._halve_or_raise(error)
            finally:
                self.optimizer.zero_grad(set_to_none=True)
                restore_random_states(states)
        self.micro_batch_size = self._session.smallest(self.micro_batch_size)
        if not torch.isfinite(loss):
            raise ModelError(
                f"loss of the rehearsal must be finite, but got loss={float(loss)} on the longest rows. "
                "Look at the labels and at the weights of the encoder."
            )

    def step(self, examples: Examples, rows: NDArray[np.int64]) -> StepResult:
        """Update the weights once from the given rows, which every process names alike."""
        while True:
            states = random_states()
            try:
                loss = self._accumulate(examples, rows)
                break
            except RuntimeError as error:
                if self._session.num_processes > 1:  # the other processes are waiting in a collective operation
                    raise
                self._halve_or_raise(error)
                self.optimizer.zero_grad(set_to_none=True)
                restore_random_states(states)
        # Clipping to infinity clips nothing and still returns the norm.
        limit = self._max_grad_norm or float("inf")
        grad_norm = self._session.accelerator.clip_grad_norm_(self.model.parameters(), limit)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult(loss, grad_norm.detach())

    def _accumulate(self, examples: Examples, rows: NDArray[np.int64]) -> torch.Tensor:
        session = self._session
        mine = split_batch(rows, session.rank, session.num_processes, self._rows_at_once(examples, rows))
        total = torch.zeros((), device=session.device)
        for number, micro in enumerate(mine, start=1):
            batch = examples.batch(micro, session.device) if len(micro) else self._masked(examples, rows[:1])
            with nullcontext() if number == len(mine) else session.accelerator.no_sync(self.model):
                total += self._backward(batch, len(rows))
        return total

    def _rows_at_once(self, examples: Examples, rows: NDArray[np.int64]) -> int:
        if self._rows_per_step is None:
            return self.micro_batch_size
        lengths = examples.encoded.lengths
        return max(1, self.micro_batch_size * int(lengths.max()) // int(lengths[rows].max()))

    def _masked(self, examples: Examples, rows: NDArray[np.int64]) -> Batch:
        """A batch that counts nothing: a process without rows still takes part in the exchange of gradients."""
        batch = examples.batch(rows, self._session.device)
        return replace(batch, observed=torch.zeros_like(batch.observed))

    def _backward(self, batch: Batch, rows_of_step: int) -> torch.Tensor:
        with self._session.accelerator.autocast():
            logits = self.model(batch.input_ids, batch.attention_mask)
        loss = self._loss_function(logits, batch.labels, batch.observed)
        # Gradients are averaged over processes, and each process holds only its share of the sum.
        divisor = (self._rows_per_step or rows_of_step) / self._session.num_processes
        self._session.accelerator.backward(loss / divisor)
        return loss.detach()

    def _halve_or_raise(self, error: RuntimeError) -> None:
        if not should_reduce_batch_size(error):
            raise error
        if self.micro_batch_size == 1:
            raise ModelError(
                "model must fit into memory with one example, but ran out of it. "
                "Use gradient_checkpointing=true, a smaller max_length or a smaller model."
            ) from error
        self.micro_batch_size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
