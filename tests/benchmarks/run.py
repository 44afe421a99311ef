"""Measure speed and memory: `make bench`, or `python -m tests.benchmarks.run --only thresholds --quick`.

Prints a table per benchmark and keeps all figures as JSON below `benchmarks/`. No aim is asserted. Searches take hours:
they are measured in full with `--only searching` alone, best with a `--folder`, in which they are continued.
"""

import argparse
import json
import os
import sys
from datetime import datetime

import torch

from tests.benchmarks import (
    growth,
    intervals,
    predicting,
    scoring,
    searching,
    serving,
    starter,
    thresholds,
    tracking,
    training,
)
from tests.benchmarks.measure import ROOT
from trainer.core import environment
from trainer.fit.distributed import has_bf16

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS = {
    "training": training.measure,
    "growth": growth.measure,
    "scoring": scoring.measure,
    "predicting": predicting.measure,
    "serving": serving.measure,
    "tracking": tracking.measure,
    "thresholds": thresholds.measure,
    "intervals": intervals.measure,
    "starter": starter.measure,
    "searching": searching.measure,
}
_REPETITIONS, _QUICK_REPETITIONS = 5, 2
_PACKAGES = ("torch", "transformers", "accelerate", "mlflow", "numpy", "scikit-learn", "optuna")
_LEGEND = """Figures are medians over alternating repetitions. ratio: how many times better ours is than the reference
in the same repetition, below 1 it is worse. min-max: of the ratio, or of ours where there is no reference."""


def main(argv=None):
    """Run all benchmarks or one, print tables, write JSON; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.run", description="Measure speed and memory.")
    parser.add_argument("--only", choices=BENCHMARKS, help="run this benchmark alone")
    parser.add_argument(
        "--quick", action="store_true", help=f"{_QUICK_REPETITIONS} repetitions, not {_REPETITIONS}; small searches"
    )
    _add_options_of_searching(parser)
    arguments = parser.parse_args(argv)
    names = ("material", "trials", "seeds", "workers", "folder")
    options = {"searching": {name: getattr(arguments, name) for name in names}}
    options["searching"]["quick"] = arguments.quick or arguments.only is None
    started, facts = datetime.now().astimezone(), _machine()
    print(*(f"{name}: {value}" for name, value in facts.items()), f"\n{_LEGEND}\n", sep="\n", flush=True)
    tables = []
    for name in [arguments.only] if arguments.only else BENCHMARKS:
        repetitions = _QUICK_REPETITIONS if arguments.quick else _REPETITIONS
        for table in BENCHMARKS[name](repetitions, **options.get(name, {})):
            print(table.text(), end="\n\n", flush=True)
            tables.append(table.facts())
    path = ROOT / "benchmarks" / f"{started:%Y-%m-%d-%H%M%S}.json"
    path.parent.mkdir(exist_ok=True)
    content = {"started": started.isoformat(), **facts, "environment": environment.describe(), "tables": tables}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    print(f"all figures: {path.relative_to(ROOT)}")
    return 0


def _add_options_of_searching(parser):
    group = parser.add_argument_group("searching")
    group.add_argument("--material", choices=searching.MATERIALS, help="search on this alone")
    group.add_argument("--trials", type=int, help="of each search, in place of 24 on the starter and 16 with MiniLM")
    group.add_argument("--seeds", type=int, help="searches of each kind, in place of 3")
    group.add_argument("--workers", type=int, help="of each search, in place of 2, or 1 on one core")
    group.add_argument("--folder", help="keep the searches there, and continue what is there already")


def _machine():
    facts = environment.describe()
    load, cores = os.getloadavg()[0], facts.get("cpu_available") or os.cpu_count()
    return {
        "machine": f"{facts.get('cpu')}, {cores} cores, GPUs: {', '.join(facts['gpus']) or 'none'}",
        "load": f"{load:.2f} in the last minute" + ("; BUSY, do not trust these numbers" if load > cores / 4 else ""),
        "precision": "bf16" if has_bf16() else "fp32",
        "threads": str(torch.get_num_threads()),
        "versions": ", ".join([f"python {facts['python']}", *(f"{one} {facts['packages'][one]}" for one in _PACKAGES)]),
    }


if __name__ == "__main__":
    sys.exit(main())
