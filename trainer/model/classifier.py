"""The classifier: encoder, pooling, one linear layer; and its parameters in groups for AdamW."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainer.model.config import Pooling
from trainer.model.optimizations.dropout import FastDropout

__all__ = ["EmotionClassifier", "parameter_groups"]

_LAYER = re.compile(r"(?:^|\.)(?:layers?|blocks?|h)\.(\d+)\.")
_RAREST = 1e-4


class EmotionClassifier(nn.Module):
    """An encoder with one logit per label on top.

    encoder: its call takes input_ids and attention_mask and returns an object with `last_hidden_state` (b, t, hidden).
    """

    def __init__(self, encoder: nn.Module, num_labels: int, *, pooling: Pooling, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        config: Any = encoder.config
        self.dropout = FastDropout(dropout)
        self.head = nn.Linear(config.hidden_size, num_labels)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (b, k), float32 also inside autocast. input_ids, attention_mask: (b, t), 1 = a real piece."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        with torch.autocast(hidden.device.type, enabled=False):
            vectors = _pool(hidden.float(), attention_mask, self.pooling)
            logits: Tensor = self.head(self.dropout(vectors))
        return logits

    @torch.no_grad()
    def init_bias(self, frequencies: npt.NDArray[np.float64]) -> None:
        """Start from the labels' log-odds: an untrained model then predicts the frequencies (k,) of the train split.

        Frequencies are clipped to [0.0001, 0.9999].
        """
        clipped = np.clip(frequencies, _RAREST, 1 - _RAREST)
        self.head.bias.copy_(torch.from_numpy(np.log(clipped) - np.log1p(-clipped)))


def parameter_groups(
    model: EmotionClassifier,
    *,
    learning_rate: float,
    head_learning_rate_factor: float,
    layer_decay: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Return groups for AdamW, each with params, lr, weight_decay and a name, from the bottom of the model to its top.

    Every trainable parameter is in exactly one group. Encoder layer i of L has learning_rate * layer_decay^(L - 1 - i),
    embeddings layer_decay^L, what stands above the layers learning_rate, the head its own factor of it.
    Biases, norms and embeddings do not decay: a row of a piece that no text holds would only shrink.
    """
    undecayed, num_layers = _undecayed(model), _num_layers(model)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    trainable = [(_depth(name, num_layers), name, p) for name, p in model.named_parameters() if p.requires_grad]
    for depth, name, parameter in sorted(trainable, key=lambda item: item[0]):
        factor = head_learning_rate_factor if depth > num_layers else layer_decay ** (num_layers - depth)
        rate, decay = learning_rate * factor, 0.0 if name in undecayed else weight_decay
        # Equal groups are one: fewer, larger kernels in the optimizer.
        group = groups.setdefault((rate, decay), {"params": [], "lr": rate, "weight_decay": decay, "depths": []})
        group["params"].append(parameter)
        group["depths"].append(depth)
    return [_named(group, num_layers) for group in groups.values()]


def _pool(hidden: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    if pooling == "cls":
        return hidden[:, 0]
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def _undecayed(model: nn.Module) -> set[str]:
    names = {name for name, parameter in model.named_parameters() if parameter.ndim < 2}
    for path, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            names.add(f"{path}.weight")
    return names


def _num_layers(model: nn.Module) -> int:
    found = (_LAYER.search(name) for name, _ in model.named_parameters())
    return max((int(match[1]) + 1 for match in found if match), default=0)


def _depth(name: str, num_layers: int) -> int:
    """0 for embeddings, i + 1 for layer i, L for what stands above the layers, L + 1 for the head."""
    if name.startswith("head."):
        return num_layers + 1
    if match := _LAYER.search(name):
        return int(match[1]) + 1
    return 0 if "embeddings" in name else num_layers


def _named(group: dict[str, Any], num_layers: int) -> dict[str, Any]:
    depths = group.pop("depths")
    parts = ["embeddings", *(f"layer_{i}" for i in range(num_layers)), "head"]
    ends = [parts[depths[0]], parts[depths[-1]]]
    name = "-".join(dict.fromkeys(ends)) + ("" if group["weight_decay"] else " without decay")
    return {**group, "name": name}
