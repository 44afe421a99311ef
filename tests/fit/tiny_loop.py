"""Runs the real loop on a tiny classifier, in this process or in processes that tests start and kill."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from transformers import AutoModel, BertConfig, DebertaV2Config

from trainer.data.tokenization import TokenizedTexts
from trainer.fit.batch_schedule import BatchSchedule
from trainer.fit.checkpoint import CheckpointStore
from trainer.fit.checkpoint_strategy import ReplicatedCheckpoints
from trainer.fit.config import FitConfig
from trainer.fit.distributed import DistributedContext, open_context
from trainer.fit.inference import EncodedSplit
from trainer.fit.loop import Loop
from trainer.fit.optimizer import build_optimizer, build_scheduler
from trainer.fit.progress import FitResult
from trainer.fit.step import Stepper
from trainer.launch import launcher
from trainer.model.classifier import EmotionClassifier, parameter_groups
from trainer.model.config import LossConfig
from trainer.model.deberta_attention import use_compact_attention
from trainer.model.losses.loss import build_loss
from trainer.tracking.run import NullTracker

VOCABULARY, LABELS = 40, 3
ARCHITECTURES = {
    "bert": (BertConfig, {}),
    "deberta": (DebertaV2Config, {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
}


def make_split(count: int, seed: int) -> EncodedSplit:
    """Examples of 3 to 12 tokens; label j is present when token 10 + j is."""
    rng = np.random.default_rng(seed)
    texts = [rng.integers(3, VOCABULARY, rng.integers(3, 13)) for _ in range(count)]
    for example, ids in enumerate(texts):
        if example % 4:
            ids[rng.integers(len(ids))] = 10 + example % LABELS
    labels = np.array([[10 + j in ids for j in range(LABELS)] for ids in texts], dtype=np.float32)
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in texts])]).astype(np.int64)
    tokens = TokenizedTexts(ids=np.concatenate(texts).astype(np.int32), offsets=offsets, truncated=0)
    return EncodedSplit(tokens, labels, np.ones_like(labels, dtype=bool), tuple(f"r{i}" for i in range(count)), 0)


def make_splits() -> dict[str, EncodedSplit]:
    return {"train": make_split(96, 1), "dev": make_split(48, 2)}


def make_model(dropout: float = 0.1, seed: int = 0, architecture: str = "bert") -> EmotionClassifier:
    torch.manual_seed(seed)
    kind, options = ARCHITECTURES[architecture]
    config = kind(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        max_position_embeddings=32,
        **options,
    )
    encoder = AutoModel.from_config(config)
    encoder.pooler = None
    use_compact_attention(encoder)
    return EmotionClassifier(encoder, LABELS, pooling="mean", dropout=dropout)


BASE = {"epochs": 3, "batch_size": 16, "micro_batch_size": 16, "learning_rate": 5e-3, "log_steps": 2}


class Silent:
    def on_log(self, step, metrics):
        pass

    def on_evaluation(self, row, *, best):
        pass


class Recorder(NullTracker):
    """Keeps what is logged."""

    def __init__(self, folder: Path) -> None:
        super().__init__("run", folder)
        self.points: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics, step):
        self.points.append((step, dict(metrics)))

    def series(self, name: str) -> list[float]:
        return [values[name] for _, values in self.points if name in values]


def build(model, splits, folder: Path, context: DistributedContext, seed: int = 5, **settings) -> Loop:
    stop_fraction = settings.pop("stop_fraction", 1.0)
    config = FitConfig(**(BASE | settings))
    groups = parameter_groups(
        model,
        learning_rate=config.learning_rate,
        head_learning_rate_factor=config.head_learning_rate_factor,
        layer_decay=config.layer_decay,
        weight_decay=config.weight_decay,
    )
    loss = build_loss(LossConfig(loss="bce"), torch.ones(model.head.out_features).numpy())
    optimizer = build_optimizer(groups)
    batches = BatchSchedule(splits["train"].tokens.lengths, config, seed, stop_fraction)
    stepper = Stepper(
        context.accelerator.prepare(model),
        context.accelerator.prepare(optimizer),
        build_scheduler(optimizer, config, batches.total_steps),
        loss,
        context,
        max_grad_norm=config.max_grad_norm,
        micro_batch_size=config.micro_batch_size,
        examples_per_step=batches.examples_per_step,
    )
    return Loop(
        stepper,
        splits["train"],
        splits.get("dev"),
        loss_function=loss,
        config=config,
        context=context,
        tracker=Recorder(folder),
        checkpoints=ReplicatedCheckpoints(context, CheckpointStore(folder)),
        batches=batches,
    )


def reset_accelerate() -> None:
    """Discard the state that Accelerate keeps per process."""
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()


def run(model, splits, folder: Path, **settings) -> tuple[FitResult, Loop]:
    reset_accelerate()
    context = open_context(settings.pop("precision", "fp32"), seed=7)
    loop = build(model, splits, folder, context, **settings)
    return loop.run(Silent()), loop


class KillAt(Silent):
    """Kills this process at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_log(self, step, metrics):
        if step >= self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str, kill_at: int | None, settings: dict[str, Any]) -> int:
    """Train in this process; the main one writes result.json."""
    given = dict(settings)
    model = make_model(given.pop("dropout", 0.1), architecture=given.pop("architecture", "bert"))
    context = open_context("fp32", seed=7)
    loop = build(model, make_splits(), Path(folder), context, **given)
    fitted = loop.run(KillAt(kill_at) if kill_at else Silent())
    if context.is_main:
        names = ("train/loss", "train/grad_norm", "dev/macro_f1")
        result = {"logits": fitted.dev_logits.tolist()} | {name: loop.tracker.series(name) for name in names}
        (Path(folder) / "result.json").write_text(json.dumps(result))
    return 0


def worker(rank: int, port: int, folder: str, kill_at: int | None, settings: dict[str, Any]) -> int:
    """Train as one of two processes."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    launcher.end_with(lambda: main(folder, kill_at, settings))
