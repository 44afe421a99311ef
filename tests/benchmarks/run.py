"""Measure speed and memory: `make bench`, or `python -m tests.benchmarks.run --only thresholds --quick`.

Prints a table per benchmark and writes all figures as JSON below `benchmarks/`. Goals are shown, not asserted. Full
searches take hours: measure them with `--only tuning` and a `--folder`, in which the same command continues them. The
faults of the service take half an hour: `--only service`, or `--only service/faults`, measures them in full.
"""

import argparse
import dataclasses
import json
import os
import sys
from datetime import datetime

import torch

from tests.benchmarks import (
    comparing,
    inference,
    intervals,
    predicting,
    scaling,
    serving,
    starter,
    thresholds,
    tracking,
    training,
    tuning,
)
from tests.benchmarks.common.options import Options
from tests.benchmarks.common.processes import ROOT
from tests.benchmarks.service import faults, load, pages
from trainer.core import environment
from trainer.fit.distributed import has_bf16

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS = {
    "training": training,
    "scaling": scaling,
    "inference": inference,
    "predicting": predicting,
    "serving": serving,
    "tracking": tracking,
    "thresholds": thresholds,
    "intervals": intervals,
    "comparing": comparing,
    "starter": starter,
    "tuning": tuning,
    "service/load": load,
    "service/pages": pages,
    "service/faults": faults,
}
_FAMILIES = sorted({name.partition("/")[0] for name in BENCHMARKS if "/" in name})
_LONG = ("tuning", "service/faults")
"""Measured in full only on request."""
_QUICK_REPETITIONS = 2
_PACKAGES = ("torch", "transformers", "accelerate", "mlflow", "numpy", "scikit-learn", "optuna")
_LEGEND = """Figures are medians over alternating repetitions. ratio: how many times better ours is than the reference
in the same repetition; below 1 it is worse. min-max: of the ratio, or of ours where there is no reference."""


def main(argv=None):
    """Run all benchmarks or one, print tables, write JSON; return the exit status."""
    only, options = _parse(argv)
    started, facts = datetime.now().astimezone(), _machine()
    print(*(f"{name}: {value}" for name, value in facts.items()), f"\n{_LEGEND}\n", sep="\n", flush=True)
    tables = []
    for name in [name for name in BENCHMARKS if only in (None, name, name.partition("/")[0])]:
        of_part = options if only or name not in _LONG else dataclasses.replace(options, quick=True)
        for table in BENCHMARKS[name].measure(of_part):
            print(table.text(), end="\n\n", flush=True)
            tables.append(table.as_json())
    path = ROOT / "benchmarks" / f"{started:%Y-%m-%d-%H%M%S}.json"
    path.parent.mkdir(exist_ok=True)
    content = {"started": started.isoformat(), **facts, "environment": environment.describe(), "tables": tables}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    print(f"all figures: {path.relative_to(ROOT)}")
    return 0


def _parse(argv):
    """Return the part to measure, None for all, and the options."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.run", description="Measure speed and memory.")
    parser.add_argument("--only", choices=[*BENCHMARKS, *_FAMILIES], help="measure only this part")
    parser.add_argument("--quick", action="store_true", help="two repetitions of smaller measurements")
    parser.add_argument("--repetitions", type=int, help=f"instead of {Options.repetitions}, or {_QUICK_REPETITIONS}")
    parser.add_argument("--model", help="measure only this model of the part, such as starter or minilm")
    searches = parser.add_argument_group("tuning")
    searches.add_argument("--trials", type=int, help="trials of each search; default 24 on the starter, 16 on MiniLM")
    searches.add_argument("--seeds", type=int, help="searches of each kind; default 3")
    searches.add_argument("--workers", type=int, help="workers of each search; default 2, or 1 on one core")
    searches.add_argument("--folder", help="folder of the searches, which are continued there")
    arguments = vars(parser.parse_args(argv))
    only = arguments.pop("only")
    if arguments["model"] is not None:
        models = getattr(BENCHMARKS.get(only), "MODELS", ())
        if arguments["model"] not in models:
            parser.error(f"--model must be a model of the part in --only ({', '.join(models) or 'it has none'})")
    default = _QUICK_REPETITIONS if arguments["quick"] else Options.repetitions
    return only, Options(**{**arguments, "repetitions": arguments["repetitions"] or default})


def _machine():
    facts = environment.describe()
    load, cores = os.getloadavg()[0], facts.get("cpu_available") or os.cpu_count()
    return {
        "machine": f"{facts.get('cpu')}, {cores} cores, GPUs: {', '.join(facts['gpus']) or 'none'}",
        "load": f"{load:.2f} in the last minute" + ("; BUSY, the figures are unreliable" if load > cores / 4 else ""),
        "precision": "bf16" if has_bf16() else "fp32",
        "threads": str(torch.get_num_threads()),
        "versions": ", ".join([f"python {facts['python']}", *(f"{one} {facts['packages'][one]}" for one in _PACKAGES)]),
    }


if __name__ == "__main__":
    sys.exit(main())
