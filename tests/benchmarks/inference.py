"""Texts per second of an evaluation and of the served model, compared with the pipeline of stock transformers."""

from functools import partial

from tests.benchmarks.common import assets
from tests.benchmarks.common.processes import alternate, measure_implementation
from tests.benchmarks.common.tables import Row, Table

__all__ = ["MODELS", "measure"]

MODELS = ("starter", "minilm")
_OURS = {
    "evaluation": ("evaluation", None),
    "served": ("served", 3),
    "served_int8": ("served in int8", None),
}
"""Implementation to the words of its rows and its goal."""


def measure(options):
    """Yield a table for MiniLM on GoEmotions, tokenization included, or for the starter where that is the model."""
    if options.model == "starter":
        yield _table("starter", {"preset": "starter"}, options)
        return
    settings = assets.minilm_settings(100)  # few examples to train on: the test split is scored
    if settings is None:
        yield Table(title="inference: MiniLM", note=assets.MISSING)
    else:
        yield _table("MiniLM, 5,427 texts of GoEmotions", settings, options)


def _table(title, settings, options):
    functions = {name: partial(measure_implementation, name, **settings) for name in ("stock", *_OURS)}
    stock, *ours = alternate(functions, options.repetitions).values()
    rows = []
    for metric, words, more in (("texts_per_second", "texts/s", True), ("peak_mib", "peak MiB", False)):
        reference = [one[metric] for one in stock]
        for (name, goal), results in zip(_OURS.values(), ours, strict=True):
            pair = {"ours": [one[metric] for one in results], "reference": reference}
            rows.append(Row(measure=f"{words}, {name}", **pair, more_is_better=more, at_least=goal if more else None))
    title = f"inference: {title}, reference: text-classification pipeline, batch 32"
    return Table(title=title, rows=tuple(rows), note="float32 except int8; same weights and threads, without loading")
