"""The table of poolings: from the hidden states of a text's tokens to one vector.

To add one: a function and a line in POOLINGS, and its name in `trainer.model.config.PoolingName`.
"""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

__all__ = ["POOLINGS", "Pooling", "first_token", "mean"]


class Pooling(Protocol):
    """Signature of a pooling."""

    def __call__(self, hidden: Tensor, attention_mask: Tensor, /) -> Tensor:
        """Return (b, hidden). hidden: (b, t, hidden), float32. attention_mask: (b, t), 1 on tokens, 0 on padding."""


def mean(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the mean over the tokens, padding left out; zeros for a text of padding alone."""
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def first_token(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the hidden state of the first token, [CLS] in most encoders."""
    return hidden[:, 0]


POOLINGS: Mapping[str, Pooling] = {"mean": mean, "cls": first_token}
"""Value of the setting `pooling` → function."""
