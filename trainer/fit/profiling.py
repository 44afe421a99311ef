"""What a model costs to keep and to ask."""

import time

import numpy as np
import torch

from trainer.core import artifacts
from trainer.fit.inference import Examples
from trainer.model.classifier import EmotionClassifier

__all__ = ["measure_cost"]

_WARM_UP, _TEXTS = 5, 50


def measure_cost(model: EmotionClassifier, examples: Examples, device: torch.device) -> dict[str, float]:
    """Metrics of a model on a device: its parameters, the MB (10^6 bytes) of its weights, the ms of a forward pass.

    The time is the median over single texts, at most 50 spread over `examples`, after a few that do not count. It is
    taken in float32, as the evaluation and the served model compute. Leaves the model in evaluation mode.
    """
    parameters = list(model.parameters())
    return {
        artifacts.MODEL_PARAMETERS: sum(parameter.numel() for parameter in parameters),
        artifacts.MODEL_SIZE_MB: sum(parameter.nbytes for parameter in parameters) / 1e6,
        artifacts.MODEL_LATENCY_MS: 1000 * _median_seconds(model.eval(), examples, device),
    }


def _median_seconds(model: EmotionClassifier, examples: Examples, device: torch.device) -> float:
    rows = np.linspace(0, len(examples) - 1, min(_TEXTS, len(examples))).astype(np.int64)
    for row in rows[:_WARM_UP]:
        _forward_seconds(model, examples, row, device)
    return float(np.median([_forward_seconds(model, examples, row, device) for row in rows]))


@torch.inference_mode()
def _forward_seconds(model: EmotionClassifier, examples: Examples, row: np.int64, device: torch.device) -> float:
    batch = examples.batch(np.array([row]), device)
    _wait_for(device)
    started = time.perf_counter()
    model(batch.input_ids, batch.attention_mask)
    _wait_for(device)
    return time.perf_counter() - started


def _wait_for(device: torch.device) -> None:
    """Let an accelerator, which works on while we go on, come to the end of what it was told."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
