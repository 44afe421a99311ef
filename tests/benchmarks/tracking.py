"""Cost of tracking: its fraction of a training, and the time of one call."""

from functools import partial

from tests.benchmarks.common.processes import alternate, by_metric, measure_implementation
from tests.benchmarks.common.tables import Row, Table

__all__ = ["measure"]


def measure(options):
    """Return one table: the same short training with MLflow on SQLite and without tracking."""
    settings = {"preset": "starter", "epochs": 1 if options.quick else 2}
    functions = {name: partial(measure_implementation, name, **settings) for name in ("ours", "ours_tracked")}
    untracked, tracked = map(by_metric, alternate(functions, options.repetitions).values())
    rows = [
        Row(measure="wall time for tracking, %", ours=_percentages(untracked, tracked, "loop_seconds"), below=2),
        Row(measure="CPU time of all threads for tracking, %", ours=_percentages(untracked, tracked, "cpu_seconds")),
    ]
    for metric, words in {"loop_seconds": "loop, seconds", "cpu_seconds": "loop, CPU seconds"}.items():
        rows.append(Row(measure=words, ours=tracked[metric], reference=untracked[metric]))
    rows.append(Row(measure="log_metrics of 5 metrics, microseconds", ours=tracked["call_microseconds"]))
    rows.append(Row(measure="opening a new store and last upload, seconds", ours=tracked["outside_seconds"]))
    note = (
        f"starter, {settings['epochs']} epoch(s), system metrics on; a range that includes 0 is smaller than the noise"
    )
    return [Table(title="tracking: MLflow on SQLite, reference: no tracking", rows=tuple(rows), note=note)]


def _percentages(untracked, tracked, metric):
    pairs = zip(tracked[metric], untracked[metric], strict=True)
    return [(1 - without / with_tracking) * 100 for with_tracking, without in pairs]
