"""Texts per second of an evaluation, against the text-classification pipeline of stock transformers."""

from functools import partial

from tests.benchmarks import materials
from tests.benchmarks.measure import Row, Table, alternate, contend

__all__ = ["measure"]

_OURS = {
    "ours_scores": ("evaluation", None),
    "served_scores": ("served", 3),
    "served_scores_int8": ("served in int8", None),
}
"""Contender → what its row is called, and the ratio it aims at."""


def measure(repetitions):
    """One table: the test split of GoEmotions through MiniLM, tokenization included; in float32 unless it says int8."""
    data, model = materials.goemotions(), materials.minilm()
    if data is None or model is None:
        return [Table(title="scoring", note=materials.MISSING)]
    settings = {"preset": "goemotions-minilm", "dataset": data, "model": model, "max_train_rows": 100}
    contenders = {name: partial(contend, name, **settings) for name in ("stock_scores", *_OURS)}
    stock, *ours = alternate(contenders, repetitions).values()
    rows = []
    for key, words, more in (("texts_per_second", "texts/s", True), ("peak_mib", "peak MiB", False)):
        reference = [one[key] for one in stock]
        for (name, aim), results in zip(_OURS.values(), ours, strict=True):
            pair = {"ours": [one[key] for one in results], "reference": reference}
            rows.append(Row(measure=f"{words}, {name}", **pair, more_is_better=more, at_least=aim if more else None))
    title = "scoring: MiniLM, 5,427 texts of GoEmotions, reference: text-classification pipeline, batch 32"
    return [Table(title=title, rows=tuple(rows), note="the same weights and threads; loading is not counted")]
