"""Examples per second, memory and start of a training, compared with the Trainer of stock transformers."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from tests.benchmarks.common import assets
from tests.benchmarks.common.processes import alternate, by_metric, measure_implementation
from tests.benchmarks.common.tables import Row, Table
from trainer.fit.distributed import has_bf16

__all__ = ["MODELS", "measure"]

_PADDED = "padded to 256, fp32"
_GROUPED = "grouped by length, same precision"
_REFERENCES = {"stock_padded": _PADDED, "stock_grouped": _GROUPED}
_DEBERTA_GOALS = {"bf16": {_PADDED: 50, _GROUPED: 2.5}, "fp32": {_GROUPED: 2.5}}
_MINILM_GOALS = {"bf16": {_PADDED: 45, _GROUPED: 1.15}, "fp32": {_PADDED: 3, _GROUPED: 1.15}}


@dataclass(frozen=True)
class _Case:
    """A training of an encoder on GoEmotions. encoder: context with its path, or None where it is not available."""

    title: str
    encoder: Callable[[], AbstractContextManager[Path | None]]
    preset: str
    num_grouped: int
    """Examples of our training and of the grouped reference."""
    num_padded: int
    goals: Mapping[str, Mapping[str, float]]
    """Precision to reference to goal."""


def _deberta(title, size, preset, num_grouped, num_padded, **changes):
    return _Case(title, partial(assets.deberta, size, **changes), preset, num_grouped, num_padded, _DEBERTA_GOALS)


_ON_CPU = {
    "minilm": _Case("MiniLM", lambda: nullcontext(assets.minilm()), "goemotions-minilm", 3200, 128, _MINILM_GOALS),
    "deberta-small": _deberta("DeBERTa 6 x 384", "xsmall", "goemotions-xsmall", 3200, 128, num_hidden_layers=6),
    "deberta-xsmall": _deberta("DeBERTa-v3 xsmall shape", "xsmall", "goemotions-xsmall", 1600, 64),
    "deberta-base": _deberta("DeBERTa-v3 base shape", "base", "goemotions-base", 320, 32),
}
_ON_GPU = {
    "deberta-base": _deberta("DeBERTa-v3 base shape", "base", "goemotions-base", 12800, 1280),
    "deberta-large": _deberta("DeBERTa-v3 large shape", "large", "goemotions-large", 6400, 640),
}
_CASES = _ON_GPU if torch.cuda.is_available() else _ON_CPU
MODELS = ("starter", *_CASES)


def measure(options):
    """Yield a table for the starter, and one for each encoder on GoEmotions and each precision of the hardware."""
    if options.model in (None, "starter"):
        yield _table("starter", {"preset": "starter"}, (0, 192), {}, options)
    for name, case in _CASES.items():
        if options.model in (None, name):
            yield from _tables(case, options)
    if not has_bf16():
        yield Table(title="training: bf16", note="not measured: this hardware has no bf16 matrix products")
    if not torch.cuda.is_available():
        yield Table(title="training: on a GPU", note="not measured: this machine has none")


def _tables(case, options):
    data = assets.goemotions()
    with case.encoder() as path:
        if data is None or path is None:
            yield Table(title=f"training: {case.title} on GoEmotions", note=assets.MISSING)
            return
        settings = {"preset": case.preset, "dataset": data, "model": path, "ema_decay": 0}
        sizes = (case.num_grouped, case.num_padded)
        for precision in ("bf16", "fp32") if has_bf16() else ("fp32",):
            title = f"{case.title} on GoEmotions, {precision}"
            yield _table(title, {**settings, "precision": precision}, sizes, case.goals[precision], options)


def _table(title, settings, num_examples, goals, options):
    grouped, padded = num_examples
    sizes = {"ours": grouped, "stock_grouped": grouped, "stock_padded": padded}
    functions = {
        name: partial(measure_implementation, name, **settings, epochs=1, max_train_rows=size)
        for name, size in sizes.items()
    }
    figures = {name: by_metric(results) for name, results in alternate(functions, options.repetitions).items()}
    note = (
        f"one epoch of {grouped or 'all'} train examples ({padded} for the padded reference, where each costs the "
        "same); our loss is the preset's, the reference has BCE; neither averages weights; memory is the resident "
        "memory of the process, or the allocated memory of the GPU; GFLOP are those of our own matrix products"
    )
    return Table(title=f"training: {title}, reference: stock transformers", rows=_rows(figures, goals), note=note)


def _rows(figures, goals):
    ours = figures["ours"]

    def pair(metric, name):
        return {"ours": ours[metric], "reference": figures[name][metric]}

    speed = [
        Row(
            measure=f"examples/s, {words}",
            **pair("examples_per_second", name),
            more_is_better=True,
            at_least=goals.get(words),
        )
        for name, words in _REFERENCES.items()
    ]
    memory = [
        Row(measure=f"peak MiB, {words}", **pair("peak_mib", name), at_least=1 if name == "stock_grouped" else None)
        for name, words in _REFERENCES.items()
    ]
    start = Row(measure=f"seconds to the first step, {_GROUPED}", **pair("start_seconds", "stock_grouped"))
    roofline = {"ours": ours["gflops"], "reference": ours["matrix_gflops"]}
    rate = Row(measure="GFLOP/s, reference: this machine's matrix products", **roofline, more_is_better=True)
    return (*speed, *memory, start, rate)
