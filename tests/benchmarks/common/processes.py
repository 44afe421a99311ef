"""Child processes that measure, and their repetition in alternating order."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trainer.core.signals import raise_stops

__all__ = [
    "ROOT",
    "alternate",
    "as_arguments",
    "by_metric",
    "measure_implementation",
    "peak_resident_mib",
    "run_python",
]

ROOT = Path(__file__).resolve().parents[3]
_REMOVED = (
    *("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_REGISTRY_URI"),
    "OPTUNA_STORAGE",
)
"""Environment variables that would send the runs of a benchmark to the user's server."""


def alternate(functions, repetitions):
    """Return the results of each function by repetition. functions: name to function.

    Every second repetition calls them in reverse order, so that a drift of the machine affects all of them.
    """
    results = {name: [] for name in functions}
    for repetition in range(repetitions):
        for name in list(functions)[:: -1 if repetition % 2 else 1]:
            print(f"{name}, repetition {repetition + 1} of {repetitions}", file=sys.stderr)
            results[name].append(functions[name]())
    return results


def by_metric(results):
    """Return a list for each metric from the dictionaries of several repetitions."""
    return {metric: [result[metric] for result in results] for metric in results[0]}


def measure_implementation(name, **settings):
    """Return what one of `IMPLEMENTATIONS` measures in a process and a run folder of its own."""
    with tempfile.TemporaryDirectory(prefix="emotions-bench-") as folder:
        result = Path(folder) / "result.json"
        arguments = as_arguments({**settings, "output": folder})
        run_python(["-m", "tests.benchmarks.implementations", name, str(result), *arguments], folder)
        return json.loads(result.read_text(encoding="utf-8"))


def as_arguments(settings):
    """Return settings as `--name value` arguments."""
    return [text for name, value in settings.items() for text in (f"--{name}", str(value))]


def run_python(arguments, folder):
    """Return the seconds of a Python process of this project in `folder`, offline and with a tracking store there."""
    kept = {name: value for name, value in os.environ.items() if name not in _REMOVED}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "HF_HUB_OFFLINE": "1"}
    environment = {"CUDA_VISIBLE_DEVICES": "0", "TOKENIZERS_PARALLELISM": "false"} | kept | own
    command, started = [sys.executable, *arguments], time.perf_counter()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=folder, env=environment, **pipes)
    with raise_stops(), process:
        try:
            _, errors = process.communicate()
        except BaseException:
            process.terminate()  # a search then stops its trainings and stores their seconds
            process.wait()
            raise
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed (exit status {process.returncode}): {errors[-3000:]}")
    return time.perf_counter() - started


def peak_resident_mib():
    """Return the largest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux a process inherits the peak of getrusage from its parent
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
