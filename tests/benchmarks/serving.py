"""How fast a loaded model answers one text, and its scoring server many clients."""

from functools import partial

from tests.benchmarks import materials
from tests.benchmarks.measure import Row, Table, alternate, contend

__all__ = ["measure"]


def measure(repetitions):
    """Yield two tables for the starter, and two for MiniLM where it is at hand."""
    yield from _tables("starter", {"preset": "starter"}, repetitions)
    data, model = materials.goemotions(), materials.minilm()
    if data is None or model is None:
        yield Table(title="serving: MiniLM", note=materials.MISSING)
        return
    settings = {"preset": "goemotions-minilm", "dataset": data, "model": model, "max_train_rows": 100}
    yield from _tables("MiniLM", settings, repetitions)


def _tables(name, settings, repetitions):
    names = ("served_one", "served_one_int8", "stock_one", "server", "server_int8")
    results = alternate({one: partial(contend, one, **settings) for one in names}, repetitions)
    found = {one: {key: [result[key] for result in each] for key in each[0]} for one, each in results.items()}
    rows = [
        Row(measure=f"{key.replace('_', ', ')}{words}", ours=found[one][key], reference=found["stock_one"][key])
        for one, words in (("served_one", ", float32"), ("served_one_int8", ", int8"))
        for key in ("p50_milliseconds", "p99_milliseconds")
    ]
    yield Table(title=f"serving: {name}, one text at a time, reference: pipeline of transformers", rows=tuple(rows))
    rows = []
    for one, words in (("server", "float32"), ("server_int8", "int8")):
        rows.append(Row(measure=f"requests/s, {words}", ours=found[one]["per_second"]))
        rows += [
            Row(measure=f"{key.replace('_', ', ')}, {words}", ours=found[one][key])
            for key in ("p50_milliseconds", "p99_milliseconds")
        ]
        rows.append(Row(measure=f"errors, {words}", ours=found[one]["errors"], below=1))
    note = "`mlflow models serve`, 8 clients of the same machine, each asks one text at a time over one connection"
    yield Table(title=f"serving: {name}, scoring server", rows=tuple(rows), note=note)
