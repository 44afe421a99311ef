"""Parts the machine between workers."""

import itertools
import os
import shutil
import subprocess
from dataclasses import replace

from trainer.core.environment import available_cores, requested_threads
from trainer.core.errors import SettingsError
from tuning.execution.process import Share

__all__ = ["divide", "gpu_names", "shares"]

_MOST_ON_CORES = 4
_NO_GPU = "-1"
"""CUDA sees neither this one nor what comes after it."""


def shares(workers: str, processes: str, gpus: list[str] | None = None) -> list[Share]:
    """The share of each worker, with the user's OMP_NUM_THREADS where that is set.

    workers: a number or `auto`; processes: that setting of the trainings; gpus: `gpu_names`, where known already.
    """
    parts = divide(available_cores(), gpu_names() if gpus is None else gpus, workers, processes)
    threads = requested_threads()
    return parts if threads is None else [replace(part, threads=threads) for part in parts]


def divide(cores: list[int], gpus: list[str], workers: str, processes: str) -> list[Share]:
    """Shares of these cores and GPUs; trainings of several processes have as many GPUs, where there are any.

    Workers beyond the GPUs share them. Raises SettingsError for more workers than cores, or than trainings of so many
    processes have room for.
    """
    each = 1 if processes == "auto" else int(processes)
    room = max((len(gpus) if gpus else min(len(cores), _MOST_ON_CORES)) // each, 1)
    count = min(room, len(cores)) if workers == "auto" else int(workers)
    if count > len(cores):
        raise SettingsError(
            f"workers must be at most the number of cores, but got {workers=}, cores={len(cores)}. "
            "Give fewer: the same command on another machine shares the study."
        )
    if gpus and each > 1 and count * each > len(gpus):
        raise SettingsError(
            f"workers must leave each training its GPUs, but got {workers=}, {processes=}, gpus={len(gpus)}. "
            "Give fewer workers or processes."
        )
    parts = [cores[place * len(cores) // count : (place + 1) * len(cores) // count] for place in range(count)]
    names = [_part(gpus, place, count) if gpus else None for place in range(count)]
    return [
        _share(part, own, len(own or ()) if processes == "auto" else each)
        for part, own in zip(parts, names, strict=True)
    ]


def gpu_names() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them. Loads no torch."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        names = [name.strip() for name in given.split(",") if name.strip()]
        return list(itertools.takewhile(lambda name: name != _NO_GPU, names))
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.split() if answer.returncode == 0 else []


def _share(cores: list[int], gpus: tuple[str, ...] | None, processes: int) -> Share:
    return Share(tuple(cores), gpus, threads=max(len(cores) // max(processes, 1), 1))


def _part(gpus: list[str], place: int, count: int) -> tuple[str, ...]:
    if count >= len(gpus):
        return (gpus[place % len(gpus)],)
    return tuple(gpus[place * len(gpus) // count : (place + 1) * len(gpus) // count])
