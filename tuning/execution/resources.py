"""Cores and GPUs of this machine, assigned to workers."""

import itertools
import os
import queue
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from trainer.core.environment import available_cores, requested_threads
from trainer.core.errors import SettingsError

__all__ = ["ResourcePool", "Resources", "assign", "assign_machine", "gpu_names"]

_MAX_AUTO_WORKERS = 4
_NO_GPU = "-1"
"""CUDA ignores this name in CUDA_VISIBLE_DEVICES and every name after it."""


@dataclass(frozen=True)
class Resources:
    """Core numbers and, on a machine with GPUs, GPU names of one worker."""

    cores: tuple[int, ...]
    gpus: tuple[str, ...] | None = None
    threads: int = 1
    """Of each process of a training."""


class ResourcePool:
    """The resources of all workers; each training takes those of one worker."""

    def __init__(self, workers: Sequence[Resources]) -> None:
        # A queue: Optuna does not number its threads.
        self._free: queue.SimpleQueue[Resources] = queue.SimpleQueue()
        for resources in workers:
            self._free.put(resources)

    @contextmanager
    def take(self) -> Iterator[Resources]:
        """Give the resources of one worker to the block; wait while all are taken."""
        resources = self._free.get()
        try:
            yield resources
        finally:
            self._free.put(resources)


def assign_machine(workers: str, processes: str, gpus: list[str]) -> list[Resources]:
    """Return the resources of each worker on this machine. OMP_NUM_THREADS, where set, gives the threads.

    workers: a number or `auto`. processes: that setting of the trainings. gpus: `gpu_names()`.
    """
    assigned = assign(available_cores(), gpus, workers, processes)
    threads = requested_threads()
    return assigned if threads is None else [replace(one, threads=threads) for one in assigned]


def assign(cores: list[int], gpus: list[str], workers: str, processes: str) -> list[Resources]:
    """Divide cores and GPUs between workers. Trainings of several processes get one GPU for each, where there are GPUs.

    Workers in excess of the GPUs share them. Raises SettingsError for more workers than cores, and for more training
    processes than GPUs.
    """
    each = 1 if processes == "auto" else int(processes)
    room = max((len(gpus) if gpus else min(len(cores), _MAX_AUTO_WORKERS)) // each, 1)
    count = min(room, len(cores)) if workers == "auto" else int(workers)
    if count > len(cores):
        raise SettingsError(
            f"`workers` must be at most the number of cores, {len(cores)}, got {count}. "
            "Use fewer here, and worker=true on other machines."
        )
    if gpus and each > 1 and count * each > len(gpus):
        raise SettingsError(
            f"`workers` times `processes` must be at most the number of GPUs, {len(gpus)}, got {count} times {each}."
        )
    parts = [cores[place * len(cores) // count : (place + 1) * len(cores) // count] for place in range(count)]
    names = [_gpus_of(gpus, place, count) if gpus else None for place in range(count)]
    return [
        _resources(part, own, len(own or ()) if processes == "auto" else each)
        for part, own in zip(parts, names, strict=True)
    ]


def gpu_names() -> list[str]:
    """Return the names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them. Loads no torch."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:  # an empty value means no GPU
        names = [name.strip() for name in given.split(",") if name.strip()]
        return list(itertools.takewhile(lambda name: name != _NO_GPU, names))
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.split() if answer.returncode == 0 else []  # a driver fails: no GPU


def _resources(cores: list[int], gpus: tuple[str, ...] | None, processes: int) -> Resources:
    return Resources(tuple(cores), gpus, threads=max(len(cores) // max(processes, 1), 1))


def _gpus_of(gpus: list[str], place: int, count: int) -> tuple[str, ...]:
    if count >= len(gpus):
        return (gpus[place % len(gpus)],)
    return tuple(gpus[place * len(gpus) // count : (place + 1) * len(gpus) // count])
