"""Seconds of the commands that a newcomer types first."""

import tempfile

from tests.benchmarks.measure import Row, Table, alternate, run_python

__all__ = ["measure"]


def measure(repetitions):
    """One table; every training has a new folder and a new store."""
    results = alternate({"train": _seconds, "train --help": lambda: _seconds("--help")}, repetitions)
    rows = (
        Row(measure="python -m trainer.train, seconds", ours=results["train"], below=120),
        Row(measure="python -m trainer.train --help, seconds", ours=results["train --help"], below=1),
    )
    return [Table(title="starter: whole commands", rows=rows, note="from the start of Python, on a new store")]


def _seconds(*words):
    with tempfile.TemporaryDirectory(prefix="emotions-bench-") as folder:
        return run_python(["-m", "trainer.train", *words], folder)
