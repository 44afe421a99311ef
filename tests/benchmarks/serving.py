"""Latency of the served model, and throughput of its scoring server."""

from functools import partial

from tests.benchmarks.common import assets
from tests.benchmarks.common.processes import alternate, by_metric, measure_implementation
from tests.benchmarks.common.tables import Row, Table

__all__ = ["MODELS", "measure"]

MODELS = ("starter", "minilm")
_IMPLEMENTATIONS = ("served_single", "served_single_int8", "stock_single", "server", "server_int8")
_PERCENTILES = {"p50_milliseconds": "p50, milliseconds", "p99_milliseconds": "p99, milliseconds"}


def measure(options):
    """Yield two tables for the starter, and two for MiniLM where it is available."""
    if options.model in (None, "starter"):
        yield from _tables("starter", {"preset": "starter"}, options)
    if options.model in (None, "minilm"):
        settings = assets.minilm_settings(100)
        if settings is None:
            yield Table(title="serving: MiniLM", note=assets.MISSING)
        else:
            yield from _tables("MiniLM", settings, options)


def _tables(title, settings, options):
    functions = {name: partial(measure_implementation, name, **settings) for name in _IMPLEMENTATIONS}
    figures = {name: by_metric(results) for name, results in alternate(functions, options.repetitions).items()}
    rows = [
        Row(measure=f"{words}, {precision}", ours=figures[name][metric], reference=figures["stock_single"][metric])
        for name, precision in (("served_single", "float32"), ("served_single_int8", "int8"))
        for metric, words in _PERCENTILES.items()
    ]
    yield Table(title=f"serving: {title}, one text, reference: pipeline of transformers", rows=tuple(rows))
    rows = []
    for name, precision in (("server", "float32"), ("server_int8", "int8")):
        of_server = figures[name]
        rows += [
            Row(measure=f"requests/s, {precision}", ours=of_server["per_second"]),
            *(Row(measure=f"{words}, {precision}", ours=of_server[metric]) for metric, words in _PERCENTILES.items()),
            Row(measure=f"errors, {precision}", ours=of_server["errors"], below=1),
        ]
    note = "`mlflow models serve`; 8 clients on the same machine send one text per request over one connection each"
    yield Table(title=f"serving: {title}, scoring server", rows=tuple(rows), note=note)
