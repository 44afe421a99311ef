"""The classifier: encoder, pooling and head; and its parameters in groups for AdamW."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainer.model.config import PoolingName
from trainer.model.heads.head import LinearHead
from trainer.model.optimizations.dropout import FastDropout
from trainer.model.pooling import POOLINGS

__all__ = ["EmotionClassifier", "parameter_groups"]

_LAYER = re.compile(r"(?:^|\.)(?:layers?|blocks?|h)\.(\d+)\.")  # BERT and DeBERTa: layer, ModernBERT: layers


class EmotionClassifier(nn.Module):
    """An encoder with one logit per label.

    encoder: called with input_ids and attention_mask, returns an object with `last_hidden_state` (b, t, hidden).
    """

    def __init__(self, encoder: nn.Module, num_labels: int, *, pooling: PoolingName, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        config: Any = encoder.config
        self.dropout = FastDropout(dropout)
        self.head = LinearHead(config.hidden_size, num_labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (b, k), float32 also inside autocast. Both inputs: (b, t); mask 1 on tokens, 0 on padding."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        with torch.autocast(hidden.device.type, enabled=False):  # bf16 would round the sum over tokens and the logits
            vectors = POOLINGS[self.pooling](hidden.float(), attention_mask)
            logits: Tensor = self.head(self.dropout(vectors))
        return logits

    def init_bias(self, frequencies: npt.NDArray[np.float64]) -> None:
        """Make the untrained model predict the frequencies (k,) of the labels on the train split."""
        self.head.init_bias(frequencies)


def parameter_groups(
    model: EmotionClassifier,
    *,
    learning_rate: float,
    head_learning_rate_factor: float,
    layer_decay: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Return groups for AdamW, each with params, lr, weight_decay and a name, from the embeddings to the head.

    Every trainable parameter is in exactly one group. Encoder layer i of L has learning_rate * layer_decay^(L - 1 - i),
    embeddings learning_rate * layer_decay^L, parameters above the layers learning_rate, and the head
    learning_rate * head_learning_rate_factor. Biases, norms and embeddings have no weight decay: the row of a token
    that is in no text would only shrink.
    """
    undecayed, num_layers = _undecayed(model), _num_layers(model)
    of_head = {id(parameter) for parameter in model.head.parameters()}
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    trainable = [
        (num_layers + 1 if id(p) in of_head else _encoder_depth(name, num_layers), name, p)
        for name, p in model.named_parameters()
        if p.requires_grad
    ]
    # In a fixed order: a checkpoint names the optimizer's parameters by position.
    for depth, name, parameter in sorted(trainable, key=lambda item: item[0]):
        factor = head_learning_rate_factor if depth > num_layers else layer_decay ** (num_layers - depth)
        rate, decay = learning_rate * factor, 0.0 if name in undecayed else weight_decay
        # Groups of equal values are merged: the optimizer then runs fewer, larger kernels.
        group = groups.setdefault((rate, decay), {"params": [], "lr": rate, "weight_decay": decay, "depths": []})
        group["params"].append(parameter)
        group["depths"].append(depth)
    return [_named(group, num_layers) for group in groups.values()]


def _undecayed(model: nn.Module) -> set[str]:
    names = {name for name, parameter in model.named_parameters() if parameter.ndim < 2}
    for path, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            names.add(f"{path}.weight")
    return names


def _num_layers(model: nn.Module) -> int:
    matches = (_LAYER.search(name) for name, _ in model.named_parameters())
    return max((int(match[1]) + 1 for match in matches if match), default=0)


def _encoder_depth(name: str, num_layers: int) -> int:
    """Return 0 for embeddings, i + 1 for layer i, L for parameters above the layers."""
    if match := _LAYER.search(name):
        return int(match[1]) + 1
    return 0 if "embeddings" in name else num_layers


def _named(group: dict[str, Any], num_layers: int) -> dict[str, Any]:
    depths = group.pop("depths")
    parts = ["embeddings", *(f"layer_{i}" for i in range(num_layers)), "head"]
    ends = [parts[depths[0]], parts[depths[-1]]]
    name = "-".join(dict.fromkeys(ends)) + ("" if group["weight_decay"] else " without decay")
    return {**group, "name": name}
