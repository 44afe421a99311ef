"""Puts a training run together: encoded splits, classifier, loss, optimizer, loop."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.core.errors import SettingsError
from trainer.data.config import DataConfig
from trainer.data.dataset import ROLES, Dataset, Split
from trainer.data.tokenization import encode
from trainer.fit.batch_schedule import Plan
from trainer.fit.checkpoint import CheckpointStore
from trainer.fit.config import FitConfig
from trainer.fit.distributed import Session
from trainer.fit.inference import Examples
from trainer.fit.loop import Loop
from trainer.fit.optimizer import build_optimizer, build_schedule
from trainer.fit.step import Stepper
from trainer.model import losses
from trainer.model.class_weights import class_weights, label_frequencies
from trainer.model.classifier import EmotionClassifier, parameter_groups
from trainer.model.config import LossConfig, ModelConfig
from trainer.model.deberta_attention import attention_of
from trainer.model.encoder import load_encoder, max_tokens
from trainer.model.optimizations.vocabulary import trim_vocabulary
from trainer.tracking.run import Tracker

__all__ = ["Components", "build_components", "build_loop"]


@dataclass(frozen=True)
class Components:
    """A model that has not been trained, and the examples it is for."""

    model: EmotionClassifier
    tokenizer: Any
    examples: dict[str, Examples]
    """Role → encoded split."""

    @property
    def num_parameters(self) -> int:
        """Weights and biases of encoder and head."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def attention(self) -> str:
        """What the encoder computes its attention with; see `attention_of`."""
        return attention_of(self.model.encoder)

    @property
    def pieces(self) -> NDArray[np.int64]:
        """Every piece id that the model is called with, ascending."""
        splits = self.examples.values()
        return np.unique(np.concatenate([split.encoded.ids for split in splits] + [[split.pad_id] for split in splits]))


def build_components(dataset: Dataset, data: DataConfig, encoder: ModelConfig, *, cache: Path) -> Components:
    """Load the encoder, put a classifier on it, and encode the splits; pieces are cached in `cache`."""
    body, tokenizer = load_encoder(encoder)
    positions = max_tokens(body)
    if positions is not None and data.max_length > positions:
        raise SettingsError(
            f"max_length must be at most the {positions} pieces that the encoder has positions for, "
            f"but got max_length={data.max_length}, model={encoder.model!r}."
        )
    model = EmotionClassifier(body, len(dataset.label_names), pooling=encoder.pooling, dropout=encoder.dropout)
    splits = {role: getattr(dataset, role) for role in ROLES} | {"train": dataset.trained_on}
    train = splits["train"]
    model.init_bias(label_frequencies(train.labels, train.observed, dataset.label_names))

    def examples(split: Split) -> Examples:
        pieces = encode(split.texts, tokenizer, max_length=data.max_length, cache_folder=cache)
        return Examples(pieces, split.labels, split.observed, split.row_ids, tokenizer.pad_token_id)

    return Components(model, tokenizer, {role: examples(split) for role, split in splits.items()})


def build_loop(  # noqa: PLR0913  # the parts of a run meet here
    components: Components,
    dataset: Dataset,
    objective: LossConfig,
    fit: FitConfig,
    session: Session,
    tracker: Tracker,
    *,
    seed: int,
    share: float | None = None,
) -> Loop:
    """The loop that trains the model of a components, on the processes of a session.

    share: of the steps, after which it stops, dev being trained on; None = all, and dev favours the weights kept.
    """
    train = components.examples["train"]
    weights = class_weights(objective, train.labels, train.observed, dataset.label_names)
    loss = losses.build(objective, weights)
    trim_vocabulary(components.model.encoder, components.pieces)
    groups = parameter_groups(
        components.model,
        learning_rate=fit.learning_rate,
        head_learning_rate_factor=fit.head_learning_rate_factor,
        layer_decay=fit.layer_decay,
        weight_decay=fit.weight_decay,
    )
    components.model.to(session.device)
    if fit.compile:
        components.model.encoder.compile(dynamic=True)  # lengths differ from batch to batch
    optimizer = build_optimizer(groups)
    plan = Plan(train.encoded.lengths, fit, seed, 1.0 if share is None else share)
    schedule = build_schedule(optimizer, fit, plan.total_steps)
    stepper = Stepper(
        session.accelerator.prepare(components.model),
        session.accelerator.prepare(optimizer),
        schedule,
        loss,
        session,
        max_grad_norm=fit.max_grad_norm,
        micro_batch_size=fit.micro_batch_size if fit.tokens_per_batch else min(fit.micro_batch_size, fit.batch_size),
        rows_per_step=plan.rows_per_step,
    )
    store = CheckpointStore(tracker.folder)
    return Loop(
        stepper,
        train,
        components.examples["dev"] if share is None else None,
        loss_function=loss,
        config=fit,
        session=session,
        tracker=tracker,
        store=store,
        plan=plan,
    )
