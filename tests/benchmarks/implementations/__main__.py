"""Measure one implementation, ours or that of stock transformers, in this process.

    python -m tests.benchmarks.implementations NAME RESULT.json [--setting value]...

Clocks start after the model is loaded, for a training at its first step.
"""

import json
import sys
from functools import partial
from pathlib import Path

from tests.benchmarks.implementations import inference, served_model, training
from trainer.config import parse

__all__ = ["IMPLEMENTATIONS", "main"]

IMPLEMENTATIONS = {
    "ours": partial(training.train_ours, tracked=False),
    "ours_tracked": partial(training.train_ours, tracked=True),
    "stock_grouped": partial(training.train_stock, grouped=True),
    "stock_padded": partial(training.train_stock, grouped=False),
    "evaluation": inference.score_split,
    "served": partial(inference.score_served, precision="fp32"),
    "served_int8": partial(inference.score_served, precision="int8"),
    "stock": inference.score_stock,
    "served_single": partial(inference.time_served, precision="fp32"),
    "served_single_int8": partial(inference.time_served, precision="int8"),
    "stock_single": inference.time_stock,
    "server": partial(served_model.measure_server, precision="fp32"),
    "server_int8": partial(served_model.measure_server, precision="int8"),
}
"""Name to a function of the training settings that returns its figures."""


def main(argv):
    """Measure the named implementation and write its figures."""
    name, result, *arguments = argv
    Path(result).write_text(json.dumps(IMPLEMENTATIONS[name](parse(arguments))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
