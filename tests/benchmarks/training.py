"""Samples per second, memory and start of a training, against the Trainer of stock transformers."""

from contextlib import nullcontext
from functools import partial

import torch

from tests.benchmarks import materials
from tests.benchmarks.measure import Row, Table, alternate, contend
from trainer.fit.distributed import has_bf16

__all__ = ["measure"]

_PADDED = "padded to 256, fp32"
_GROUPED = "grouped by length, same precision"


def measure(repetitions):
    """Yield a table for the starter, and one for each encoder on GoEmotions and each precision the hardware has."""
    yield _table("starter", {"preset": "starter"}, (0, 192), {}, repetitions)
    data = materials.goemotions()
    for name, model, preset, rows, aims in _cases():
        with model as path:
            if data is None or path is None:
                yield Table(title=f"training: {name} on GoEmotions", note=materials.MISSING)
                continue
            settings = {"preset": preset, "dataset": data, "model": path, "ema_decay": 0}
            for precision in ("bf16", "fp32") if has_bf16() else ("fp32",):
                title = f"{name} on GoEmotions, {precision}"
                yield _table(title, {**settings, "precision": precision}, rows, aims[precision], repetitions)
    if not has_bf16():
        yield Table(title="training: bf16", note="not measured: this hardware has no bf16 matrix products")
    if not torch.cuda.is_available():
        yield Table(title="training: on a GPU", note="not measured: there is none here")


def _cases():
    """Name, encoder, preset, rows of the grouped and the padded training, aims by precision."""
    deberta = {"bf16": {_PADDED: 50, _GROUPED: 2.5}, "fp32": {_GROUPED: 2.5}}
    if torch.cuda.is_available():
        return [
            ("DeBERTa-v3 base shape", materials.deberta("base"), "goemotions-base", (12800, 1280), deberta),
            ("DeBERTa-v3 large shape", materials.deberta("large"), "goemotions-large", (6400, 640), deberta),
        ]
    minilm = {"bf16": {_PADDED: 45, _GROUPED: 1.15}, "fp32": {_PADDED: 3, _GROUPED: 1.15}}
    small = materials.deberta("xsmall", num_hidden_layers=6)
    return [
        ("MiniLM", nullcontext(materials.minilm()), "goemotions-minilm", (3200, 128), minilm),
        ("DeBERTa 6 x 384", small, "goemotions-xsmall", (3200, 128), deberta),
        ("DeBERTa-v3 xsmall shape", materials.deberta("xsmall"), "goemotions-xsmall", (1600, 64), deberta),
        ("DeBERTa-v3 base shape", materials.deberta("base"), "goemotions-base", (320, 32), deberta),
    ]


def _table(name, settings, num_rows, aims, repetitions):
    grouped, padded = num_rows
    budgets = {"ours": grouped, "stock_grouped": grouped, "stock_padded": padded}
    contenders = {
        one: partial(contend, one, **settings, epochs=1, max_train_rows=count) for one, count in budgets.items()
    }
    found = {
        one: {key: [result[key] for result in each] for key in each[0]}
        for one, each in alternate(contenders, repetitions).items()
    }
    ours, rows = found["ours"], []
    for one, words in (("stock_padded", _PADDED), ("stock_grouped", _GROUPED)):
        pair = {"ours": ours["samples_per_second"], "reference": found[one]["samples_per_second"]}
        rows.append(Row(measure=f"samples/s, {words}", **pair, more_is_better=True, at_least=aims.get(words)))
    for one, words in (("stock_padded", _PADDED), ("stock_grouped", _GROUPED)):
        pair = {"ours": ours["peak_mib"], "reference": found[one]["peak_mib"]}
        rows.append(Row(measure=f"peak MiB, {words}", **pair, at_least=1 if one == "stock_grouped" else None))
    start = {"ours": ours["start_seconds"], "reference": found["stock_grouped"]["start_seconds"]}
    rows.append(Row(measure=f"seconds to the first step, {_GROUPED}", **start))
    roofline = {"ours": ours["gflops"], "reference": ours["matrix_gflops"]}
    rows.append(Row(measure="GFLOP/s, reference: this machine's matrix products", **roofline, more_is_better=True))
    note = (
        f"one pass over {grouped or 'all'} train rows ({padded} for the padded reference, where all cost the same); "
        "our loss is the preset's, the reference has BCE, neither averages weights; memory is the whole process's, "
        "resident, or the GPU's; the GFLOP are those of our own matrix products"
    )
    return Table(title=f"training: {name}, reference: stock transformers", rows=tuple(rows), note=note)
