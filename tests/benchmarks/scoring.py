"""Texts per second of an evaluation, against the text-classification pipeline of stock transformers."""

from functools import partial

from tests.benchmarks import materials
from tests.benchmarks.measure import Row, Table, alternate, contend

__all__ = ["measure"]


def measure(repetitions):
    """One table: the test split of GoEmotions through MiniLM, tokenization included."""
    data, model = materials.goemotions(), materials.minilm()
    if data is None or model is None:
        return [Table(title="scoring", note=materials.MISSING)]
    settings = {"preset": "goemotions-minilm", "dataset": data, "model": model, "max_train_rows": 100}
    contenders = {name: partial(contend, name, **settings) for name in ("ours_scores", "stock_scores")}
    ours, stock = alternate(contenders, repetitions).values()
    rows = []
    for key, words, more in (("texts_per_second", "texts/s", True), ("peak_mib", "peak MiB", False)):
        pair = {"ours": [one[key] for one in ours], "reference": [one[key] for one in stock]}
        rows.append(Row(measure=words, **pair, more_is_better=more))
    title = "scoring: MiniLM, 5,427 texts of GoEmotions, reference: text-classification pipeline, batch 32"
    return [Table(title=title, rows=tuple(rows), note="float32, the same weights and threads; loading is not counted")]
