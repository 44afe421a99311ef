"""Facts and warnings that a training run shows before it begins."""

from collections.abc import Iterator
from pathlib import Path

from trainer.config import TrainConfig
from trainer.data.batching import padding_fraction
from trainer.data.dataset import ROLES, Dataset
from trainer.fit.batch_schedule import BatchSchedule
from trainer.fit.components import Components
from trainer.fit.config import FitConfig
from trainer.fit.distributed import DistributedContext
from trainer.model.config import LossConfig
from trainer.model.losses.table import unused_settings

__all__ = ["STARTER_NOTE", "data_facts", "measure", "model_facts", "training_facts", "warnings"]

STARTER_NOTE = (
    "This is the starter: a small model on a small data set, to show everything in a minute or two. "
    "For the real thing: -P preset=goemotions-minilm, or goemotions-base on a GPU."
)
_PADDING = "data/padding_share"
_TRUNCATION = {
    "train": "data/truncation_rate",  # the name that older runs have
    "dev": "data/truncation_rate/dev",
    "test": "data/truncation_rate/test",
}


def measure(components: Components, batches: BatchSchedule) -> dict[str, float]:
    """Return the fraction of padding in the steps, and of each split the fraction of texts that were truncated."""
    lengths = components.splits["train"].tokens.lengths
    return {_PADDING: padding_fraction(batches.epoch(0), lengths)} | {
        _TRUNCATION[role]: split.tokens.truncation_rate for role, split in components.splits.items()
    }


def data_facts(dataset: Dataset, measured: dict[str, float]) -> dict[str, str]:
    """Return name → value about the data. measured: the result of `measure`."""
    overlap = dataset.overlap
    rows = ", ".join(f"{role} {len(getattr(dataset, role)):,}" for role in ROLES)
    return {
        "data set": f"{dataset.name} ({len(dataset.label_names)} labels)",
        "examples": rows if dataset.added is None else f"{rows}; trained on, dev included, {len(dataset.trained_on):,}",
        "also in train": f"dev {overlap.dev_normalised}, test {overlap.test_normalised} examples; "
        f"{overlap.dropped} dropped from train",
        "truncated": ", ".join(f"{role} {measured[name]:.2%}" for role, name in _TRUNCATION.items()),
        "padding": f"{measured[_PADDING]:.1%}",
    }


def model_facts(config: TrainConfig, components: Components) -> dict[str, str]:
    """Return name → value about the model."""
    return {
        "encoder": f"{config.encoder.model} ({components.num_parameters / 1e6:.1f} M parameters)",
        "attention": components.attention,
        "loss": config.objective.loss,
    }


def training_facts(fit: FitConfig, plan: BatchSchedule, context: DistributedContext, folder: Path) -> dict[str, str]:
    """Return name → value about device, steps and the run folder."""
    size = f"{fit.tokens_per_batch:,} tokens" if fit.tokens_per_batch else f"{fit.batch_size} examples"
    return {
        "device": f"{context.device_name}, {context.num_processes} process(es)",
        "precision": context.precision,
        "steps": f"{_steps(plan)} of {size}, {fit.epochs} epochs",
        "results": str(folder),
    }


def _steps(plan: BatchSchedule) -> str:
    if plan.last_step == plan.total_steps:
        return f"{plan.total_steps:,}"
    return f"the first {plan.last_step:,} of {plan.total_steps:,}"


def warnings(config: TrainConfig, dataset: Dataset, components: Components) -> Iterator[str]:
    """Yield what the user should know before the run begins."""
    if count := dataset.overlap.test_in_dev_normalised:
        yield (
            f"{count} examples of test have their text in dev too, where thresholds are chosen, so test scores may be "
            "too high. Remove them from one of the two."
        )
    if components.attention == "stock" and config.encoder.attention == "auto":
        yield (
            "attention is that of transformers: there is no faster one for talking heads, or without relative "
            "attention."
        )
    for name in _idle_settings(config.objective):
        yield f"{name} is set, but loss={config.objective.loss} does not use it."


def _idle_settings(objective: LossConfig) -> list[str]:
    default = vars(LossConfig())
    return unused_settings(objective.loss, [name for name, value in vars(objective).items() if value != default[name]])
