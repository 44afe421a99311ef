"""Builds the parts of a training: encoded splits, classifier, loss, optimizer, loop."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.core.errors import SettingsError
from trainer.data.config import DataConfig
from trainer.data.dataset import ROLES, Dataset, Split
from trainer.data.tokenization import tokenize
from trainer.fit.batch_schedule import BatchSchedule
from trainer.fit.checkpoint import CheckpointStore
from trainer.fit.checkpoint_strategy import ReplicatedCheckpoints
from trainer.fit.config import FitConfig
from trainer.fit.distributed import DistributedContext
from trainer.fit.inference import EncodedSplit
from trainer.fit.loop import Loop
from trainer.fit.optimizer import build_optimizer, build_scheduler
from trainer.fit.step import Stepper
from trainer.model.class_weights import class_weights, label_frequencies
from trainer.model.classifier import EmotionClassifier, parameter_groups
from trainer.model.config import LossConfig, ModelConfig
from trainer.model.deberta_attention import attention_of
from trainer.model.encoder import load_encoder, max_tokens
from trainer.model.losses.loss import build_loss
from trainer.model.optimizations.vocabulary import prune_vocabulary
from trainer.tracking.run import Tracker

__all__ = ["Components", "build_components", "build_loop"]


@dataclass(frozen=True)
class Components:
    """Untrained model, tokenizer and encoded splits."""

    model: EmotionClassifier
    tokenizer: Any
    splits: dict[str, EncodedSplit]
    """Role → split."""

    @property
    def num_parameters(self) -> int:
        """Number of weights and biases of encoder and head."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def attention(self) -> str:
        """The attention implementation of the encoder; see `attention_of`."""
        return attention_of(self.model.encoder)

    @property
    def token_ids(self) -> NDArray[np.int64]:
        """All token ids that the model will be called with, ascending."""
        splits = self.splits.values()
        # No text contains padding, but batches do.
        return np.unique(np.concatenate([split.tokens.ids for split in splits] + [[split.pad_id] for split in splits]))


def build_components(dataset: Dataset, data: DataConfig, config: ModelConfig, *, cache: Path) -> Components:
    """Load the encoder, add a classifier to it, and tokenize the splits; tokens are cached in the folder `cache`."""
    body, tokenizer = load_encoder(config)
    positions = max_tokens(body)
    if positions is not None and data.max_length > positions:
        raise SettingsError(
            f"`max_length` must be at most {positions} tokens, which {config.model} has positions for, "
            f"got {data.max_length}."
        )
    model = EmotionClassifier(body, len(dataset.label_names), pooling=config.pooling, dropout=config.dropout)
    splits = {role: getattr(dataset, role) for role in ROLES} | {"train": dataset.trained_on}
    train = splits["train"]
    model.init_bias(label_frequencies(train.labels, train.observed, dataset.label_names))

    def encode(split: Split) -> EncodedSplit:
        tokens = tokenize(split.texts, tokenizer, max_length=data.max_length, cache_folder=cache)
        return EncodedSplit(tokens, split.labels, split.observed, split.example_ids, tokenizer.pad_token_id)

    return Components(model, tokenizer, {role: encode(split) for role, split in splits.items()})


def build_loop(  # noqa: PLR0913  # the parts of a run meet here
    components: Components,
    dataset: Dataset,
    loss_config: LossConfig,
    fit: FitConfig,
    context: DistributedContext,
    tracker: Tracker,
    *,
    seed: int,
    stop_fraction: float | None = None,
) -> Loop:
    """Return the loop that trains the model of the components on the processes of a context.

    stop_fraction: where dev is trained on, the fraction of the steps after which training stops. None evaluates on dev.
    """
    train = components.splits["train"]
    weights = class_weights(loss_config, train.labels, train.observed, dataset.label_names)
    loss = build_loss(loss_config, weights)
    # First: the optimizer must get the parameters that remain.
    prune_vocabulary(components.model.encoder, components.token_ids)
    groups = parameter_groups(
        components.model,
        learning_rate=fit.learning_rate,
        head_learning_rate_factor=fit.head_learning_rate_factor,
        layer_decay=fit.layer_decay,
        weight_decay=fit.weight_decay,
    )
    components.model.to(context.device)
    if fit.compile:
        components.model.encoder.compile(dynamic=True)  # lengths differ from batch to batch
    optimizer = build_optimizer(groups)
    batches = BatchSchedule(train.tokens.lengths, fit, seed, 1.0 if stop_fraction is None else stop_fraction)
    stepper = Stepper(
        context.accelerator.prepare(components.model),
        context.accelerator.prepare(optimizer),
        build_scheduler(optimizer, fit, batches.total_steps),  # not prepared: Accelerate would step it once per process
        loss,
        context,
        max_grad_norm=fit.max_grad_norm,
        # Above batch_size the first halvings would free no memory.
        micro_batch_size=fit.micro_batch_size if fit.tokens_per_batch else min(fit.micro_batch_size, fit.batch_size),
        examples_per_step=batches.examples_per_step,
    )
    return Loop(
        stepper,
        train,
        components.splits["dev"] if stop_fraction is None else None,  # trained on otherwise, so it selects nothing
        loss_function=loss,
        config=fit,
        context=context,
        tracker=tracker,
        checkpoints=ReplicatedCheckpoints(context, CheckpointStore(tracker.folder)),
        batches=batches,
    )
