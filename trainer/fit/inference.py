"""One split as the loop reads it, and the logits of a model on it."""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.batching import pad, sequential_batches
from trainer.data.tokenization import TokenizedTexts
from trainer.fit.distributed import Session

__all__ = ["Batch", "Examples", "predict_logits"]


@dataclass(frozen=True)
class Batch:
    """Tensors of one forward pass: ids and attention mask (b, t), labels and observed mask (b, k)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    observed: torch.Tensor


@dataclass(frozen=True)
class Examples:
    """A split, encoded: pieces of n texts, labels (n, k), observed mask (n, k), row ids."""

    encoded: TokenizedTexts
    labels: NDArray[np.float32]
    observed: NDArray[np.bool_]
    row_ids: tuple[str, ...]
    pad_id: int

    def __len__(self) -> int:
        return len(self.row_ids)

    def batch(self, rows: NDArray[np.int64], device: torch.device) -> Batch:
        """The given rows, padded to the longest of them, on a device."""
        ids, mask = pad(self.encoded, rows, self.pad_id)
        tensors = [torch.from_numpy(array) for array in (ids, mask, self.labels[rows], self.observed[rows])]
        if device.type == "cuda":  # from other memory, a copy would wait until the GPU has done the steps before
            tensors = [tensor.pin_memory() for tensor in tensors]
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in tensors))


def predict_logits(
    model: torch.nn.Module, examples: Examples, session: Session, *, max_tokens: int, exact: bool
) -> NDArray[np.float32]:
    """Logits (n, k) of every row, on every process; the processes share the work.

    Rows are taken in order of length, so the batches hold little padding; the order of `examples` comes back.
    exact: in float32, as the served model computes; otherwise in the precision of training.
    """
    logits = torch.zeros(examples.labels.shape, dtype=torch.float32, device=session.device)
    was_training = model.training
    model.eval()
    with torch.inference_mode(), nullcontext() if exact else session.accelerator.autocast():
        batches = sequential_batches(examples.encoded.lengths, max_tokens=max_tokens)
        for rows in batches[session.rank :: session.num_processes]:
            batch = examples.batch(rows, session.device)
            logits[torch.from_numpy(rows).to(session.device)] = model(batch.input_ids, batch.attention_mask).float()
    model.train(was_training)
    # Each row is filled by one process and zero on the others, so the sum is exact.
    return session.sum(logits.clone()).cpu().numpy()
