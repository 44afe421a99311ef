"""Inference in bfloat16 or int8. docs/explanations/performance.md has the measured speed and accuracy."""

import warnings
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PRECISIONS", "autocast", "use_int8"]

PRECISIONS = ("fp32", "bf16", "int8")
"""float32, as the evaluation computes; bfloat16 inside the encoder; int8 products in the encoder's linear layers."""

_LARGEST = 127  # not 128: a symmetric range needs no zero point


class _Int8Linear(nn.Module):
    """A linear layer with int8 weights and one scale per output; inputs are rounded to 7 bits over the whole batch.

    8 bits would overflow the 16-bit sums of CPUs without VNNI; with 7 every CPU gives the same results.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach()
        # Above 0: an output of zero weights would have scale 0.
        scales = (weight.abs().amax(dim=1) / _LARGEST).clamp(min=torch.finfo(torch.float32).tiny).double()
        zero_points = torch.zeros(len(weight), dtype=torch.long)
        with warnings.catch_warnings():
            # PyTorch 2.13 deprecates its quantized tensors, and the one fast kernel for a CPU takes nothing else.
            warnings.filterwarnings("ignore", r"torch\.quantize_per_tensor, torch\.quantize_per_channel", UserWarning)
            rounded: Any = torch.quantize_per_channel(weight, scales, zero_points, 0, torch.qint8)
            self._packed = torch.ops.quantized.linear_prepack(rounded, layer.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (..., outputs) in float32. inputs: (..., features)."""
        outputs: Tensor = torch.ops.quantized.linear_dynamic(inputs, self._packed, True)  # True: the 7 bits
        return outputs


def use_int8(encoder: nn.Module) -> int:
    """Replace every linear layer of an encoder on the CPU by an int8 one and return how many. It cannot be trained."""
    layers = [
        (parent, name)
        for parent in encoder.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear  # a subclass may compute otherwise
    ]
    for parent, name in layers:
        setattr(parent, name, _Int8Linear(getattr(parent, name)))
    return len(layers)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the context in which a model of this precision is called."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
