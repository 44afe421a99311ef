"""What tracking costs a training, and one call of it."""

from functools import partial

from tests.benchmarks.measure import Row, Table, alternate, contend

__all__ = ["measure"]


def measure(repetitions):
    """One table: the same short training with MLflow on SQLite and without any tracking."""
    names = ("ours", "ours_tracked")
    results = alternate({name: partial(contend, name, preset="starter", epochs=2) for name in names}, repetitions)
    untracked, tracked = ({key: [one[key] for one in results[name]] for key in results[name][0]} for name in names)
    rows = [
        Row(measure="share of wall time, %", ours=_shares(untracked, tracked, "loop_seconds"), below=2),
        Row(measure="share of CPU time of all threads, %", ours=_shares(untracked, tracked, "cpu_seconds")),
    ]
    for key, words in {"loop_seconds": "loop, seconds", "cpu_seconds": "loop, CPU seconds"}.items():
        rows.append(Row(measure=words, ours=tracked[key], reference=untracked[key]))
    rows.append(Row(measure="log_metrics of 5 metrics, microseconds", ours=tracked["call_microseconds"]))
    rows.append(Row(measure="opening a new store, last delivery, seconds", ours=tracked["outside_seconds"]))
    note = "starter, 2 epochs, system metrics on; a range of shares across 0 says: less than the noise of this machine"
    return [Table(title="tracking: MLflow on SQLite, reference: no tracking", rows=tuple(rows), note=note)]


def _shares(untracked, tracked, key):
    return [(1 - without / with_it) * 100 for with_it, without in zip(tracked[key], untracked[key], strict=True)]
