"""Growth of cost with the number of train examples, and with the tokens of a text."""

import time
from functools import partial

import torch

from tests.benchmarks.common import assets
from tests.benchmarks.common.processes import alternate, measure_implementation
from tests.benchmarks.common.tables import Row, Table
from trainer.model.config import ModelConfig
from trainer.model.encoder import load_encoder

__all__ = ["measure"]

_NUM_EXAMPLES = (5_000, 10_000, 20_000, 43_000)
_QUICK_NUM_EXAMPLES = (500, 1_000)
_LENGTHS = (8, 16, 32, 64, 128, 256)
_TOKENS = 1024


def measure(options):
    """Yield a table by examples, with the starter's encoder, and one by tokens, with a DeBERTa of six layers."""
    yield _by_examples(options)
    yield _by_length(options)


def _by_examples(options):
    data = assets.goemotions()
    if data is None:
        return Table(title="scaling with examples", note=assets.MISSING)
    sizes = _QUICK_NUM_EXAMPLES if options.quick else _NUM_EXAMPLES
    settings = {"preset": "starter", "dataset": data, "epochs": 1}
    functions = {size: partial(measure_implementation, "ours", **settings, max_train_rows=size) for size in sizes}
    results = alternate(functions, options.repetitions)
    cost = {size: [1e6 / one["examples_per_second"] for one in each] for size, each in results.items()}
    rows = [
        Row(measure=f"microseconds per example, {size:,} examples", ours=cost[size], reference=cost[sizes[0]])
        for size in sizes
    ]
    note = f"one epoch of the starter's encoder on GoEmotions; reference: {sizes[0]:,} examples. A ratio of 1 is linear"
    return Table(title="scaling with examples", rows=tuple(rows), note=note)


def _by_length(options):
    with assets.deberta("xsmall", num_hidden_layers=6) as path:
        if path is None:
            return Table(title="scaling with tokens", note=assets.MISSING)
        encoders = {attention: _load(path, attention) for attention in ("compact", "stock")}
    rows = []
    for length in _LENGTHS:
        functions = {attention: partial(_milliseconds, encoder, length) for attention, encoder in encoders.items()}
        results = alternate(functions, options.repetitions)
        measured = {"ours": results["compact"], "reference": results["stock"]}
        rows.append(Row(measure=f"milliseconds, {_TOKENS // length} texts of {length} tokens", **measured))
    note = (
        f"forward and backward over {_TOKENS:,} tokens, DeBERTa 6 x 384, only the attention differs; equal times in a "
        "column are linear in tokens"
    )
    return Table(title="scaling with tokens, reference: stock attention", rows=tuple(rows), note=note)


def _load(path, attention):
    torch.manual_seed(0)
    encoder, _ = load_encoder(ModelConfig(model=str(path), attention=attention))
    encoder.get_input_embeddings().weight.requires_grad_(False)  # its dense gradient would dominate the times
    return encoder.train()


def _milliseconds(encoder, length, calls=3):
    ids = torch.randint(1000, 2000, (_TOKENS // length, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    for call in range(calls + 1):
        if call == 1:  # the first one warms up
            started = time.perf_counter()
        encoder(input_ids=ids, attention_mask=mask).last_hidden_state.sum().backward()
        encoder.zero_grad()
    return (time.perf_counter() - started) / calls * 1e3
