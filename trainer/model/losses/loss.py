"""The loss of a configuration, with its class weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.model.config import LossConfig
from trainer.model.losses import functions
from trainer.model.losses.table import entry_of

__all__ = ["Loss", "build_loss"]


@dataclass(frozen=True, eq=False)  # the comparison of tensors has no single truth value
class Loss:
    """Callable on logits, labels and mask (b, k); returns the sum over examples and labels."""

    config: LossConfig
    class_weights: Tensor

    def __call__(self, logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Return the sum over examples and labels, a scalar."""
        return functions.reduce_sum(self.elementwise(logits, labels, mask))

    def elementwise(self, logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Return (b, k), in float32 also inside autocast; float64 stays float64."""
        entry, precision = entry_of(self.config.loss), functions.precision_of(logits)
        settings: dict[str, Any] = {name: getattr(self.config, name) for name in entry.settings}
        with torch.autocast(logits.device.type, enabled=False):
            if entry.has_class_weights:
                settings["weights"] = self.class_weights.to(logits.device, precision)
            labels = functions.smooth(labels.to(precision), self.config.label_smoothing)
            losses: Tensor = getattr(functions, entry.name)(logits, labels, mask, **settings)
        return losses


def build_loss(config: LossConfig, class_weights: npt.NDArray[np.float64]) -> Loss:
    """Return the loss of `config`. class_weights: (k,), of `trainer.model.class_weights`; some losses ignore them."""
    return Loss(config, torch.from_numpy(np.asarray(class_weights, dtype=np.float64)))
