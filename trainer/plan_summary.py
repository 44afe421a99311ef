"""What a training run says of itself before it begins."""

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
_PADDING, _TRUNCATION = "data/padding_share", "data/truncation_rate"


def measure(components: Components, plan: BatchSchedule) -> dict[str, float]:
    """Metrics of train as it is encoded: share of padding in the steps, share of texts that were cut."""
    encoded = components.splits["train"].tokens
    return {_PADDING: padding_fraction(plan.epoch(0), encoded.lengths), _TRUNCATION: encoded.truncation_rate}


def data_facts(dataset: Dataset, found: dict[str, float]) -> dict[str, str]:
    """Name → value about the data. found: what `measure` returned."""
    overlap = dataset.overlap
    rows = ", ".join(f"{role} {len(getattr(dataset, role)):,}" for role in ROLES)
    return {
        "data set": f"{dataset.name} ({len(dataset.label_names)} labels)",
        "rows": rows if dataset.added is None else f"{rows}; trained on, dev included, {len(dataset.trained_on):,}",
        "also in train": f"dev {overlap.dev_normalised}, test {overlap.test_normalised} rows; "
        f"{overlap.dropped} dropped from train",
        "cut at max_length": f"{found[_TRUNCATION]:.2%} of train",
        "padding": f"{found[_PADDING]:.1%}",
    }


def model_facts(config: TrainConfig, components: Components) -> dict[str, str]:
    """Name → value about what is trained."""
    return {
        "encoder": f"{config.encoder.model} ({components.num_parameters / 1e6:.1f} M parameters)",
        "attention": components.attention,
        "loss": config.objective.loss,
    }


def training_facts(fit: FitConfig, plan: BatchSchedule, context: DistributedContext, folder: Path) -> dict[str, str]:
    """Name → value about the steps, and where results go."""
    size = f"{fit.tokens_per_batch:,} pieces" if fit.tokens_per_batch else f"{fit.batch_size} rows"
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


def warnings(config: TrainConfig, components: Components) -> Iterator[str]:
    """What its owner should know before the run begins."""
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
