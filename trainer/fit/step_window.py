"""Training metrics of the steps between two points of the curves."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.core import artifacts
from trainer.core.errors import ModelError
from trainer.fit.distributed import DistributedContext
from trainer.fit.step import StepResult

__all__ = ["StepWindow"]

_SHOWN_IDS = 5


class StepWindow:
    """Collects the results of steps on the device and reads them together, which costs one synchronization."""

    def __init__(self, context: DistributedContext, example_ids: Sequence[str]) -> None:
        self._context = context
        self._example_ids = example_ids
        self.open()

    def open(self) -> None:
        """Discard the steps collected and start the clock."""
        self._steps: list[tuple[int, NDArray[np.int64], StepResult]] = []
        self._started = time.perf_counter()

    def add(self, step: int, examples: NDArray[np.int64], result: StepResult) -> None:
        """Collect the result of a step. examples: indices over all processes."""
        self._steps.append((step, examples, result))

    def close(self) -> dict[str, float]:
        """Return the metrics of the steps collected, and open the next window.

        Raises ModelError, on every process, for a step whose loss or gradient norm is not finite.
        """
        seconds = time.perf_counter() - self._started
        # Each process has the losses of its own examples; gradients, and so their norms, are already those of all.
        losses = self._context.all_sum(torch.stack([result.loss for _, _, result in self._steps])).cpu().numpy()
        norms = torch.stack([result.grad_norm for _, _, result in self._steps]).cpu().numpy()
        for (step, examples, _), loss, norm in zip(self._steps, losses, norms, strict=True):
            if not np.isfinite(loss + norm):
                self._raise_not_finite(step, examples, float(loss))
        num_examples = sum(len(examples) for _, examples, _ in self._steps)  # over all processes, as the losses
        self.open()
        return {
            artifacts.TRAIN_LOSS: float(losses.sum()) / num_examples,
            artifacts.TRAIN_GRAD_NORM: float(norms.mean()),
            artifacts.TRAIN_SAMPLES_PER_SECOND: num_examples / seconds,
        }

    def _raise_not_finite(self, step: int, examples: NDArray[np.int64], loss: float) -> None:
        names = [self._example_ids[example] for example in examples]
        more = len(names) - _SHOWN_IDS
        raise ModelError(
            f"The loss or its gradient is not finite (loss {loss / len(names):.6g}) at step {step}, on the examples "
            f"{', '.join(names[:_SHOWN_IDS])}{f' and {more} more' if more > 0 else ''}. "
            "Lower learning_rate, or use precision=fp32."
        )
