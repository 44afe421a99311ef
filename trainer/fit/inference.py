"""A split as the loop reads it, and the logits of a model on it."""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.batching import pad, sequential_batches
from trainer.data.tokenization import TokenizedTexts
from trainer.fit.distributed import DistributedContext

__all__ = ["Batch", "EncodedSplit", "predict_logits"]


@dataclass(frozen=True)
class Batch:
    """Tensors of one forward pass: token ids and attention mask (b, t), labels and observed mask (b, k)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    observed: torch.Tensor


@dataclass(frozen=True)
class EncodedSplit:
    """The n examples of a split as tokens: labels (n, k), observed mask (n, k), n ids."""

    tokens: TokenizedTexts
    labels: NDArray[np.float32]
    observed: NDArray[np.bool_]
    example_ids: tuple[str, ...]
    pad_id: int

    def __len__(self) -> int:
        return len(self.example_ids)

    def batch(self, examples: NDArray[np.int64], device: torch.device) -> Batch:
        """Return the examples of these indices on a device, padded to the longest of them."""
        ids, mask = pad(self.tokens, examples, self.pad_id)
        tensors = [torch.from_numpy(array) for array in (ids, mask, self.labels[examples], self.observed[examples])]
        if device.type == "cuda":  # a copy from unpinned memory would wait for the steps before it
            tensors = [tensor.pin_memory() for tensor in tensors]
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in tensors))


def predict_logits(
    model: torch.nn.Module, split: EncodedSplit, context: DistributedContext, *, max_tokens: int, exact: bool
) -> NDArray[np.float32]:
    """Return the logits (n, k) of every example, on every process; the processes share the work.

    Batches are made by length to save padding; the result is in the order of `split`.
    exact: compute in float32, as the served model does; otherwise in the precision of training.
    """
    # On the device: a copy to the CPU would wait for each batch.
    logits = torch.zeros(split.labels.shape, dtype=torch.float32, device=context.device)
    was_training = model.training
    model.eval()
    with torch.inference_mode(), nullcontext() if exact else context.accelerator.autocast():
        batches = sequential_batches(split.tokens.lengths, max_tokens=max_tokens)
        # A stride, as neighbours are alike: equal work for all.
        for examples in batches[context.rank :: context.num_processes]:
            batch = split.batch(examples, context.device)
            logits[torch.from_numpy(examples).to(context.device)] = model(batch.input_ids, batch.attention_mask).float()
    model.train(was_training)
    # One process fills each example and the others leave it zero, so the sum is exact.
    return context.all_sum(logits).cpu().numpy()
