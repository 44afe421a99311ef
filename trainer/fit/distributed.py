"""The processes of one run and what they compute on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list, set_seed

from trainer.core.environment import asked_threads

__all__ = ["Session", "has_bf16", "open_session", "random_states", "restore_random_states"]


@dataclass(frozen=True)
class Session:
    """One process of a run, and its way to the others."""

    accelerator: Accelerator
    precision: Literal["fp32", "bf16"]

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return int(self.accelerator.process_index)

    @property
    def num_processes(self) -> int:
        """Processes in the run."""
        return int(self.accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        """True on the one process that logs, saves and prints."""
        return bool(self.accelerator.is_main_process)

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def device_name(self) -> str:
        """The device in words."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{self.device.type}, {torch.get_num_threads()} threads"

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over processes, on every process."""
        total: torch.Tensor = self.accelerator.reduce(tensor, reduction="sum")
        return total

    def smallest(self, number: int) -> int:
        """The least of one number per process, on every process."""
        mine = torch.tensor([number], device=self.device)
        return int(self.accelerator.gather(mine).min())

    def separate(self, seed: int) -> None:
        """Give each process random numbers of its own, from `seed` + rank. Call it once the weights are made."""
        set_seed((seed + self.rank) % 2**32)

    def share(self, value: Any) -> Any:
        """The main process's value, on every process."""
        box = [value]
        broadcast_object_list(box)
        return box[0]


def open_session(precision: Literal["auto", "fp32", "bf16"], seed: int) -> Session:
    """The session of this process; joins the process group when started by the launcher.

    Every process starts from the same `seed`, so that random weights are the same; see `Session.separate`. It computes
    with OMP_NUM_THREADS threads, by default as many as torch likes.
    """
    if threads := asked_threads():  # torch has read another number in a process that this one was forked from
        torch.set_num_threads(threads)
    on_accelerator = torch.cuda.is_available() or torch.backends.mps.is_available()
    resolved: Literal["fp32", "bf16"] = ("bf16" if has_bf16() else "fp32") if precision == "auto" else precision
    accelerator = Accelerator(
        cpu=not on_accelerator,
        mixed_precision="bf16" if resolved == "bf16" else "no",
        # Ours never change. Sent with each forward pass, they would be a collective step that a retry repeats alone.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    set_seed(seed)
    return Session(accelerator, resolved)


def has_bf16() -> bool:
    """True where bf16 matrix products run in hardware: newer GPUs, CPUs with avx512_bf16 or AMX.

    Elsewhere PyTorch emulates them, several times slower than float32.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def random_states() -> dict[str, torch.Tensor]:
    """States of the generators that dropout draws from, on this process."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random_states(states: Mapping[str, torch.Tensor]) -> None:
    """Take the generators back to where `random_states` was called. A state of a device not at hand is left out."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
