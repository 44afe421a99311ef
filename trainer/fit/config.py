"""Settings of the training loop."""

from dataclasses import dataclass
from typing import Literal

from trainer.core.settings import require

__all__ = ["FitConfig"]


_COUNTS = (
    *("batch_size", "micro_batch_size", "eval_batch_tokens"),
    *("restarts", "evals_per_epoch", "log_steps", "checkpoint_steps"),
)
_MAX_EPOCHS = 100_000
_MAX_COUNT = 10**9


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How weights are fitted: steps, optimizer, schedule, precision, selection, checkpoints."""

    epochs: int = 4
    """Passes over the train split, at most."""
    batch_size: int = 32
    """Examples per optimizer step, over all processes and micro batches."""
    tokens_per_batch: int = 0
    """Tokens per optimizer step, padding included, in place of batch_size; every example has equal weight. 0 = none."""
    micro_batch_size: int = 32
    """Examples per forward pass on one process, at most; halves itself when memory runs out. With tokens_per_batch: as
    many tokens as that many of the longest examples have."""
    eval_batch_tokens: int = 4096  # measured: as fast from 2,048 on
    """Tokens per forward pass of an evaluation on one process, padding included."""
    learning_rate: float = 1e-4
    """Highest learning rate of the encoder."""
    head_learning_rate_factor: float = 10.0
    """Learning rate of the classifier as a multiple of the encoder's."""
    layer_decay: float = 1.0
    """Factor on the learning rate from each encoder layer to the one below it; 1 = none."""
    weight_decay: float = 0.01
    """AdamW's decoupled decay of matrices; biases, norms and embeddings have none."""
    warmup_ratio: float = 0.1
    """Fraction of the steps in which the learning rate rises from 0."""
    schedule: Literal["linear", "cosine", "cosine_with_restarts", "constant"] = "linear"
    """Course of the learning rate after the warmup."""
    restarts: int = 2
    """Cosine cycles of schedule=cosine_with_restarts."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm; 0 = never."""
    ema_decay: float = 0.0
    """Decay per step of the exponential moving average of weights that is evaluated and kept; 0 = none."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the matrix products; weights are float32 always. auto = bf16 where the hardware has it."""
    compile: bool = False
    """Compile the encoder with torch.compile, which takes a minute or more at the start. For GPUs: on CPUs it made
    DeBERTa slower."""
    evals_per_epoch: int = 1
    """Evaluations on dev in each epoch, evenly spaced, the last one at its end."""
    best_metric: Literal["macro_f1", "micro_f1", "macro_ap", "loss"] = "macro_f1"
    """Dev metric that chooses the weights kept; F1 is taken with cross-fitted thresholds."""
    patience: int = 0
    """Evaluations in a row without improvement after which training stops; 0 = train to the end."""
    log_steps: int = 10
    """Optimizer steps between points of the training curves."""
    checkpoint_steps: int = 500
    """Optimizer steps between checkpoints; each evaluation also writes one."""

    def __post_init__(self) -> None:
        self._require("epochs", 1 <= self.epochs <= _MAX_EPOCHS, f"be in [1, {_MAX_EPOCHS}]")
        for name in _COUNTS:
            self._require(name, 1 <= getattr(self, name) <= _MAX_COUNT, "be in [1, 10^9]")
        self._require("learning_rate", 0 < self.learning_rate <= 1, "be above 0 and at most 1")
        self._require("head_learning_rate_factor", 0 < self.head_learning_rate_factor <= 1000, "be in (0, 1000]")
        self._require("layer_decay", 0 < self.layer_decay <= 1, "be above 0 and at most 1")
        self._require("weight_decay", 0 <= self.weight_decay < 1, "be at least 0 and below 1")
        self._require("warmup_ratio", 0 <= self.warmup_ratio < 1, "be at least 0 and below 1")
        self._require("max_grad_norm", 0 <= self.max_grad_norm < float("inf"), "be at least 0; 0 switches it off")
        self._require("ema_decay", 0 <= self.ema_decay < 1, "be at least 0 and below 1")
        tokens = 0 <= self.tokens_per_batch <= _MAX_COUNT
        self._require("tokens_per_batch", tokens, "be in [0, 10^9]; 0 counts examples, not tokens")
        self._require("patience", 0 <= self.patience <= _MAX_COUNT, "be in [0, 10^9]; 0 trains to the end")

    def _require(self, name: str, holds: bool, rule: str) -> None:
        require(name, getattr(self, name), holds, rule)
