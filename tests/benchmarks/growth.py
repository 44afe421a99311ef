"""How cost grows: with the rows of a training, and with the pieces of a text."""

import time
from functools import partial

import torch

from tests.benchmarks import materials
from tests.benchmarks.measure import Row, Table, alternate, contend
from trainer.model.config import ModelConfig
from trainer.model.encoder import load_encoder

__all__ = ["measure"]

_ROWS = (5_000, 10_000, 20_000, 43_000)
_LENGTHS = (8, 16, 32, 64, 128, 256)
_PIECES = 1024


def measure(repetitions):
    """Yield a table for rows, with the starter's encoder, and one for pieces, with a DeBERTa of six layers."""
    yield _by_rows(repetitions)
    yield _by_length(repetitions)


def _by_rows(repetitions):
    data = materials.goemotions()
    if data is None:
        return Table(title="growth with rows", note=materials.MISSING)
    settings = {"preset": "starter", "dataset": data, "epochs": 1}
    contenders = {count: partial(contend, "ours", **settings, max_train_rows=count) for count in _ROWS}
    results = alternate(contenders, repetitions)
    cost = {count: [1e6 / one["samples_per_second"] for one in each] for count, each in results.items()}
    rows = [Row(measure=f"microseconds a row, {n:,} rows", ours=cost[n], reference=cost[_ROWS[0]]) for n in _ROWS]
    note = f"one epoch of the starter's encoder on GoEmotions; reference: {_ROWS[0]:,} rows. A ratio of 1 is linear"
    return Table(title="growth with rows", rows=tuple(rows), note=note)


def _by_length(repetitions):
    with materials.deberta("xsmall", num_hidden_layers=6) as path:
        if path is None:
            return Table(title="growth with pieces", note=materials.MISSING)
        encoders = {kind: _encoder(path, kind) for kind in ("compact", "stock")}
    rows = []
    for length in _LENGTHS:
        contenders = {kind: partial(_milliseconds, encoder, length) for kind, encoder in encoders.items()}
        found = alternate(contenders, repetitions)
        measured = {"ours": found["compact"], "reference": found["stock"]}
        rows.append(Row(measure=f"milliseconds, {_PIECES // length} texts of {length} pieces", **measured))
    note = (
        f"forward and backward over {_PIECES:,} pieces, DeBERTa 6 x 384, attention alone differs; a column of equal "
        "times is linear in pieces"
    )
    return Table(title="growth with pieces, reference: stock attention", rows=tuple(rows), note=note)


def _encoder(path, attention):
    torch.manual_seed(0)
    encoder, _ = load_encoder(ModelConfig(model=str(path), attention=attention))
    encoder.get_input_embeddings().weight.requires_grad_(False)  # its dense gradient would hide everything else
    return encoder.train()


def _milliseconds(encoder, length, calls=3):
    ids = torch.randint(1000, 2000, (_PIECES // length, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    for call in range(calls + 1):
        if call == 1:  # the first one warms up
            started = time.perf_counter()
        encoder(input_ids=ids, attention_mask=mask).last_hidden_state.sum().backward()
        encoder.zero_grad()
    return (time.perf_counter() - started) / calls * 1e3
