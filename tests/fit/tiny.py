"""Runs the real loop on the tiny classifier: for tests, and as a program for processes that tests start and kill."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, BertConfig, DebertaV2Config

from trainer.data.tokenization import TokenizedTexts
from trainer.fit.batch_schedule import Plan
from trainer.fit.checkpoint import CheckpointStore
from trainer.fit.config import FitConfig
from trainer.fit.distributed import Session, open_session
from trainer.fit.inference import Examples
from trainer.fit.loop import FitResult, Loop
from trainer.fit.optimizer import build_optimizer, build_schedule
from trainer.fit.step import Stepper
from trainer.launch import launcher
from trainer.model import losses
from trainer.model.classifier import EmotionClassifier, parameter_groups
from trainer.model.config import LossConfig
from trainer.model.deberta_attention import use_window_attention
from trainer.tracking.run import NullTracker

VOCABULARY, LABELS = 40, 3
ARCHITECTURES = {
    "bert": (BertConfig, {}),
    "deberta": (DebertaV2Config, {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
}


def make_examples(rows: int, seed: int) -> Examples:
    """Rows of 3 to 12 pieces; label j is present when piece 10 + j is."""
    rng = np.random.default_rng(seed)
    pieces = [rng.integers(3, VOCABULARY, rng.integers(3, 13)) for _ in range(rows)]
    for row, ids in enumerate(pieces):
        if row % 4:
            ids[rng.integers(len(ids))] = 10 + row % LABELS
    labels = np.array([[10 + j in ids for j in range(LABELS)] for ids in pieces], dtype=np.float32)
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in pieces])]).astype(np.int64)
    encoded = TokenizedTexts(ids=np.concatenate(pieces).astype(np.int32), offsets=offsets, truncated=0)
    return Examples(encoded, labels, np.ones_like(labels, dtype=bool), tuple(f"r{i}" for i in range(rows)), 0)


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
    use_window_attention(encoder)
    return EmotionClassifier(encoder, LABELS, pooling="mean", dropout=dropout)


BASE = {"epochs": 3, "batch_size": 16, "micro_batch_size": 16, "learning_rate": 5e-3, "log_steps": 2}


class Silent:
    def update(self, step, metrics):
        pass

    def evaluated(self, row, *, best):
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


def build(model, examples, folder: Path, session: Session, seed: int = 5, **settings) -> Loop:
    share = settings.pop("share", 1.0)
    config = FitConfig(**(BASE | settings))
    groups = parameter_groups(
        model,
        learning_rate=config.learning_rate,
        head_learning_rate_factor=config.head_learning_rate_factor,
        layer_decay=config.layer_decay,
        weight_decay=config.weight_decay,
    )
    loss = losses.build(LossConfig(loss="bce"), torch.ones(model.head.out_features).numpy())
    optimizer = build_optimizer(groups)
    plan = Plan(examples["train"].encoded.lengths, config, seed, share)
    stepper = Stepper(
        session.accelerator.prepare(model),
        session.accelerator.prepare(optimizer),
        build_schedule(optimizer, config, plan.total_steps),
        loss,
        session,
        max_grad_norm=config.max_grad_norm,
        micro_batch_size=config.micro_batch_size,
        rows_per_step=plan.rows_per_step,
    )
    return Loop(
        stepper,
        examples["train"],
        examples.get("dev"),
        loss_function=loss,
        config=config,
        session=session,
        tracker=Recorder(folder),
        store=CheckpointStore(folder),
        plan=plan,
    )


def run(model, examples, folder: Path, **settings) -> tuple[FitResult, Loop]:
    session = open_session(settings.pop("precision", "fp32"), seed=7)
    loop = build(model, examples, folder, session, **settings)
    return loop.run(Silent()), loop


class KillAt(Silent):
    """Ends this process without a word at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def update(self, step, metrics):
        if step >= self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str, kill_at: str, settings: str) -> int:
    given = json.loads(settings)
    examples = {"train": make_examples(96, 1), "dev": make_examples(48, 2)}
    model = make_model(given.pop("dropout", 0.1), architecture=given.pop("architecture", "bert"))
    session = open_session("fp32", seed=7)
    loop = build(model, examples, Path(folder), session, **given)
    fitted = loop.run(KillAt(int(kill_at)) if kill_at != "never" else Silent())
    if session.is_main:
        names = ("train/loss", "train/grad_norm", "dev/macro_f1")
        result = {"logits": fitted.dev_logits.tolist()} | {name: loop.tracker.series(name) for name in names}
        (Path(folder) / "result.json").write_text(json.dumps(result))

    return 0


if __name__ == "__main__":
    launcher.end_with(lambda: main(*sys.argv[1:]))
