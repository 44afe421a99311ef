"""Seconds of the first commands of a new user."""

import tempfile
from functools import partial

from tests.benchmarks.common.processes import alternate, run_python
from tests.benchmarks.common.tables import Row, Table

__all__ = ["measure"]

_COMMANDS = {
    "python -m trainer.train": 120,
    "python -m trainer.train --help": 1,
    "python -m tuning.tune --help": None,
}
"""Command to the goal of its seconds."""


def measure(options):
    """Return one table; every command has a new folder and a new store."""
    functions = {command: partial(_seconds, command.split()[1:]) for command in _COMMANDS}
    results = alternate(functions, options.repetitions)
    rows = tuple(
        Row(measure=f"{command}, seconds", ours=results[command], below=goal) for command, goal in _COMMANDS.items()
    )
    return [Table(title="starter: whole commands", rows=rows, note="from the start of Python, on a new store")]


def _seconds(arguments):
    with tempfile.TemporaryDirectory(prefix="emotions-bench-") as folder:
        return run_python(arguments, folder)
