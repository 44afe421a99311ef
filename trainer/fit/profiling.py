"""Size and latency of a model."""

import time

import numpy as np
import torch

from trainer.core import artifacts
from trainer.fit.inference import EncodedSplit
from trainer.model.classifier import EmotionClassifier

__all__ = ["measure_cost"]

_WARMUP_EXAMPLES, _TIMED_EXAMPLES = 5, 50


def measure_cost(model: EmotionClassifier, split: EncodedSplit, device: torch.device) -> dict[str, float]:
    """Return the metrics of a model on a device: parameters, MB (10^6 bytes) of weights, ms of a forward pass.

    The latency is the median over single examples, at most 50 spread over `split`, after five that do not count. It is
    measured in float32, as evaluation and serving compute. The model is left in evaluation mode.
    """
    parameters = list(model.parameters())
    return {
        artifacts.MODEL_PARAMETERS: sum(parameter.numel() for parameter in parameters),
        artifacts.MODEL_SIZE_MB: sum(parameter.nbytes for parameter in parameters) / 1e6,
        artifacts.MODEL_LATENCY_MS: 1000 * _median_seconds(model.eval(), split, device),
    }


def _median_seconds(model: EmotionClassifier, split: EncodedSplit, device: torch.device) -> float:
    examples = np.linspace(0, len(split) - 1, min(_TIMED_EXAMPLES, len(split))).astype(np.int64)
    for example in examples[:_WARMUP_EXAMPLES]:
        _forward_seconds(model, split, example, device)
    # A median, because other programs slow single passes down.
    return float(np.median([_forward_seconds(model, split, example, device) for example in examples]))


@torch.inference_mode()
def _forward_seconds(model: EmotionClassifier, split: EncodedSplit, example: np.int64, device: torch.device) -> float:
    batch = split.batch(np.array([example]), device)
    _synchronize(device)
    started = time.perf_counter()
    model(batch.input_ids, batch.attention_mask)
    _synchronize(device)
    return time.perf_counter() - started


def _synchronize(device: torch.device) -> None:
    """Wait for the work that an accelerator still has queued."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
