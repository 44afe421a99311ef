"""Facts, hints and warnings that a training run prints before it begins."""

from collections.abc import Iterator
from pathlib import Path

from trainer.config import TrainConfig, unread_settings
from trainer.core.run_folder import found_again, output_hint
from trainer.core.settings import flatten
from trainer.data.batching import padding_fraction
from trainer.data.dataset import ROLES, Dataset, positives
from trainer.fit.batch_schedule import BatchSchedule
from trainer.fit.components import Components
from trainer.fit.config import FitConfig
from trainer.fit.distributed import DistributedContext
from trainer.model.config import STARTER
from trainer.reporting.console import abbreviate

__all__ = ["data_facts", "hint", "model_facts", "token_facts", "training_facts", "warnings"]

_STARTER_DATA_HINT = (
    "The starter is a small model on a small data set, for a first look. For real scores: "
    "preset=goemotions-minilm, or preset=goemotions-base on a GPU."
)
_STARTER_MODEL_HINT = (
    "The starter encoder is small, for a first look. For real scores: preset=goemotions-minilm, or "
    "preset=goemotions-base on a GPU, with your data set."
)
_RESUME_HINT = "If the run is stopped, continue it with resume=latest."


def token_facts(components: Components, batches: BatchSchedule) -> dict[str, str]:
    """Return the percentages of texts that were truncated, and of padding in the first epoch."""
    rates = {role: split.tokens.truncation_rate for role, split in components.splits.items()}
    padding = padding_fraction(batches.epoch(0), components.splits["train"].tokens.lengths)
    return {
        "truncated": ", ".join(f"{role} {rate:.2%}" for role, rate in rates.items()),
        "padding": f"{padding:.1%}",
    }


def data_facts(dataset: Dataset, tokens: dict[str, str]) -> dict[str, str]:
    """Return name → value about the data. tokens: the result of `token_facts`."""
    counts = ", ".join(f"{role} {len(getattr(dataset, role)):,}" for role in ROLES)
    if dataset.added is not None:
        counts += f"; trained on, dev included, {len(dataset.trained_on):,}"
    annotated = {role: getattr(dataset, role).observed.mean() for role in ROLES}
    partly = {"annotated": ", ".join(f"{role} {part:.1%} of labels" for role, part in annotated.items())}
    return {
        "data set": f"{dataset.name} ({len(dataset.label_names)} labels)",
        "labels in train": _label_counts(dataset),
        "examples": counts,
        **({"dev": f"fold {dataset.fold} of train and dev together"} if dataset.fold else {}),
        **(partly if min(annotated.values()) < 1 else {}),
        **_overlap(dataset),
        # A line of zeros tells nothing; the tags of the run have it.
        **{name: value for name, value in tokens.items() if any(digit in value for digit in "123456789")},
    }


def _overlap(dataset: Dataset) -> dict[str, str]:
    overlap = dataset.overlap
    if not (overlap.dev_normalised or overlap.test_normalised):
        return {}
    counts = f"dev {overlap.dev_normalised}, test {overlap.test_normalised} examples"
    return {"also in train": f"{counts}; {overlap.dropped} dropped from train"}


def _label_counts(dataset: Dataset) -> str:
    counts = zip(dataset.label_names, positives(dataset.train), strict=True)
    return abbreviate([f"{name} {count:,}" for name, count in counts])


def model_facts(encoder: str, loss: str, components: Components) -> dict[str, str]:
    """Return name → value about the model."""
    return {
        "encoder": f"{encoder} ({components.num_parameters / 1e6:.1f} M parameters)",
        "attention": components.attention,
        "loss": loss,
    }


def training_facts(fit: FitConfig, batches: BatchSchedule, context: DistributedContext, folder: Path) -> dict[str, str]:
    """Return name → value about device, steps and the run folder."""
    size = f"{fit.tokens_per_batch:,} tokens" if fit.tokens_per_batch else f"{fit.batch_size} examples"
    return {
        "device": f"{context.device_name}, {context.num_processes} process{'es' * (context.num_processes > 1)}",
        "precision": context.precision,
        "steps": f"{_steps(batches)} of {size}, {fit.epochs} epochs",
        "results": str(found_again(folder)),
    }


def _steps(batches: BatchSchedule) -> str:
    if batches.last_step == batches.total_steps:
        return f"{batches.total_steps:,}"
    return f"the first {batches.last_step:,} of {batches.total_steps:,}"


def hint(config: TrainConfig) -> str:
    """Return what the user may want to do next."""
    later = _RESUME_HINT + output_hint(Path(config.run.output))
    if config.model.model != STARTER:
        return later
    return f"{_STARTER_DATA_HINT if config.data.dataset == STARTER else _STARTER_MODEL_HINT} {later}"


def warnings(config: TrainConfig, dataset: Dataset, components: Components) -> Iterator[str]:
    """Yield what the user should know before the run begins."""
    if count := dataset.overlap.test_in_dev_normalised:
        yield (
            f"{count} examples of test have their text in dev too, where thresholds are chosen, so test scores may be "
            "too high. Remove them from one of the two."
        )
    yield from dataset.warnings
    yield from _absent_labels(dataset)
    if components.attention == "stock" and config.model.attention == "auto":  # with attention=stock, the user chose it
        yield "This encoder uses the attention of transformers: the faster one supports only DeBERTa-v2 and v3."
    values, defaults = flatten(config), flatten(TrainConfig())
    for name, reason in unread_settings(config).items():
        if values[name] != defaults[name] and name != "batch_size":  # every preset has one
            yield f"`{name}` has no effect with {reason}."


def _absent_labels(dataset: Dataset) -> Iterator[str]:
    for role in ROLES[1:]:
        counts = positives(getattr(dataset, role))
        names = [name for name, count in zip(dataset.label_names, counts, strict=True) if count == 0]
        if names:
            yield f"labels without a positive on {role}: {abbreviate(names)}. They cannot be scored there."
