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
from trainer.fit.distributed import DistributedContext, restore_rng_state, rng_state
from trainer.fit.inference import Batch, EncodedSplit

__all__ = ["LossFunction", "StepResult", "Stepper"]

LossFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits (b, k), labels (b, k), observed (b, k)) -> the loss summed over examples and labels."""


@dataclass(frozen=True)
class StepResult:
    """Tensors of a step, still on the device: loss summed over this process's examples, gradient norm."""

    loss: torch.Tensor
    grad_norm: torch.Tensor


class Stepper:
    """Takes optimizer steps over given examples; halves `micro_batch_size` when memory runs out.

    The loss is divided by the examples of the whole step, over processes and micro batches, so neither the number
    of processes nor the size of the micro batches changes the gradient.
    examples_per_step: the divisor instead (see `BatchSchedule`). micro_batch_size then bounds the tokens of a micro
    batch: as many as that many of the longest examples have.
    """

    def __init__(  # noqa: PLR0913  # the parts of a step
        self,
        model: nn.Module,
        optimizer: AdamW,
        scheduler: LambdaLR,
        loss_function: LossFunction,
        context: DistributedContext,
        *,
        max_grad_norm: float,
        micro_batch_size: int,
        examples_per_step: float | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.micro_batch_size = micro_batch_size
        self._loss_function = loss_function
        self._context = context
        self._max_grad_norm = max_grad_norm
        self._examples_per_step = examples_per_step

    def dry_run(self, split: EncodedSplit, examples: NDArray[np.int64]) -> None:
        """Run forward and backward over the longest examples before training, to find the micro batch that fits.

        Weights, gradients and random states stay as they are. Raises ModelError when the loss is not finite.
        """
        states = rng_state()
        while True:
            try:
                # AdamW allocates its two moments in the first step, and they must fit next to the batch.
                moments = [torch.empty_like(parameter) for parameter in self.model.parameters() for _ in range(2)]
                batch = split.batch(examples[: self.micro_batch_size], self._context.device)
                with self._context.accelerator.no_sync(self.model):  # processes may retry unequally often
                    loss = self._backward(batch, len(examples))
                del moments  # the optimizer needs their memory
                break
            except RuntimeError as error:
                self._halve_or_raise(error)
            finally:
                self.optimizer.zero_grad(set_to_none=True)
                restore_rng_state(states)
        # A checkpoint saves one value for all processes.
        self.micro_batch_size = self._context.all_min(self.micro_batch_size)
        if not torch.isfinite(loss):
            raise ModelError(
                f"The loss of the longest examples is {float(loss)} before the first step. "
                "Check the labels and the weights of the encoder."
            )

    def step(self, split: EncodedSplit, examples: NDArray[np.int64]) -> StepResult:
        """Update the weights from these examples; every process passes the same indices."""
        while True:
            states = rng_state()
            try:
                loss = self._accumulate(split, examples)
                break
            except RuntimeError as error:
                if self._context.num_processes > 1:  # the other processes wait in a collective operation
                    raise
                self._halve_or_raise(error)
                self.optimizer.zero_grad(set_to_none=True)  # the first micro batches may have left gradients
                restore_rng_state(states)
        # An infinite limit clips nothing and still returns the norm.
        limit = self._max_grad_norm or float("inf")
        # After the last micro batch, which sums the gradients over processes: the norm is that of the whole step.
        grad_norm = self._context.accelerator.clip_grad_norm_(self.model.parameters(), limit)
        self.optimizer.step()
        self.scheduler.step()  # after the optimizer, or the first learning rate would be skipped
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult(loss, grad_norm.detach())

    def _accumulate(self, split: EncodedSplit, examples: NDArray[np.int64]) -> torch.Tensor:
        context = self._context
        micro_batches = split_batch(
            examples, context.rank, context.num_processes, self._examples_per_pass(split, examples)
        )
        total = torch.zeros((), device=context.device)  # on the device: a number would wait for it in each micro batch
        for number, micro in enumerate(micro_batches, start=1):
            batch = split.batch(micro, context.device) if len(micro) else self._empty_batch(split, examples[:1])
            # Gradients are exchanged once per step, in the last backward pass.
            with nullcontext() if number == len(micro_batches) else context.accelerator.no_sync(self.model):
                total += self._backward(batch, len(examples))
        return total

    def _examples_per_pass(self, split: EncodedSplit, examples: NDArray[np.int64]) -> int:
        if self._examples_per_step is None:
            return self.micro_batch_size
        lengths = split.tokens.lengths
        # Memory grows with padded tokens, so short texts fit in larger numbers.
        return max(1, self.micro_batch_size * int(lengths.max()) // int(lengths[examples].max()))

    def _empty_batch(self, split: EncodedSplit, examples: NDArray[np.int64]) -> Batch:
        """Return a batch of loss 0: a process without examples still takes part in the exchange of gradients."""
        batch = split.batch(examples, self._context.device)
        return replace(batch, observed=torch.zeros_like(batch.observed))

    def _backward(self, batch: Batch, step_examples: int) -> torch.Tensor:
        with self._context.accelerator.autocast():
            logits = self.model(batch.input_ids, batch.attention_mask)
        # Outside autocast: losses are computed in float32.
        loss = self._loss_function(logits, batch.labels, batch.observed)
        # DDP averages gradients over processes, and each process has only its part of the sum.
        divisor = (self._examples_per_step or step_examples) / self._context.num_processes
        self._context.accelerator.backward(loss / divisor)
        return loss.detach()  # kept until the window is read, and its graph would keep the activations

    def _halve_or_raise(self, error: RuntimeError) -> None:
        if not should_reduce_batch_size(error):  # a defect must not look like a lack of memory
            raise error
        if self.micro_batch_size == 1:
            raise ModelError(
                "One example does not fit into memory. "
                "Use gradient_checkpointing=true, a smaller max_length or a smaller model."
            ) from error
        self.micro_batch_size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # cached blocks have the old sizes
