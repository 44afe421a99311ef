"""The processes of a run and the device of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    broadcast,
    broadcast_object_list,
    gather_object,
    get_data_structure,
    recursively_apply,
    set_seed,
)
from accelerate.utils.operations import TensorInformation, is_tensor_information

from trainer.core.environment import requested_threads

__all__ = ["DistributedContext", "from_main_process", "has_bf16", "open_context", "restore_rng_state", "rng_state"]


@dataclass(frozen=True)
class DistributedContext:
    """One process of a run and its communication with the others."""

    accelerator: Accelerator
    precision: Literal["fp32", "bf16"]

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return int(self.accelerator.process_index)

    @property
    def num_processes(self) -> int:
        """Processes of the run."""
        return int(self.accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        """True on the one process that logs, saves and prints."""
        return bool(self.accelerator.is_main_process)

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def device_name(self) -> str:
        """Name of the device for people."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{self.device.type}, {torch.get_num_threads()} threads"

    def all_sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum over processes, on every process."""
        total: torch.Tensor = self.accelerator.reduce(tensor, reduction="sum")
        return total

    def all_min(self, number: int) -> int:
        """Return the smallest number of all processes, on every process."""
        mine = torch.tensor([number], device=self.device)
        return int(self.accelerator.gather(mine).min())

    def all_gather(self, value: Any) -> list[Any]:
        """Return the value of each process by rank, on every process."""
        values: list[Any] = gather_object([value])
        return values

    def broadcast(self, value: Any) -> Any:
        """Return the main process's value, on every process. For tensors see `broadcast_tensors`."""
        return broadcast_object_list([value])[0]

    def broadcast_tensors(self, state: Any) -> Any:
        """Return the main process's nested dicts and lists of CPU tensors, on every process; other values go with them.

        The tensors pass through the device one by one, so that a state larger than its memory can be sent.
        """
        if self.num_processes == 1:
            return state
        structure = self.broadcast(get_data_structure(state) if self.is_main else None)
        received = state if self.is_main else recursively_apply(_empty, structure, test_type=is_tensor_information)
        return recursively_apply(self._broadcast_tensor, received)

    def _broadcast_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        received: torch.Tensor = broadcast(tensor.to(self.device))  # NCCL sends no CPU tensors
        return tensor if self.is_main else received.cpu()

    def seed_rank(self, seed: int) -> None:
        """Seed this process with `seed` + rank, after weights are built, so that dropout differs between processes."""
        set_seed((seed + self.rank) % 2**32)  # NumPy accepts 32 bits


def from_main_process(value: Any) -> Any:
    """Return the main process's value, on every process; joins the process group where the launcher started it."""
    PartialState(cpu=not _has_accelerator())  # not Accelerator: its precision is a setting, and this sends the settings
    return broadcast_object_list([value])[0]


def open_context(precision: Literal["auto", "fp32", "bf16"], seed: int) -> DistributedContext:
    """Return the context of this process, which joins the process group where the launcher started it.

    Every process starts from `seed`, so that random weights are equal on all; see `DistributedContext.seed_rank`.
    torch uses OMP_NUM_THREADS threads, or its own choice where that is not set.
    """
    if threads := requested_threads():  # torch reads the variable at import, which a forked process inherits
        torch.set_num_threads(threads)
    resolved: Literal["fp32", "bf16"] = ("bf16" if has_bf16() else "fp32") if precision == "auto" else precision
    accelerator = Accelerator(
        cpu=not _has_accelerator(),
        mixed_precision="bf16" if resolved == "bf16" else "no",
        # Our buffers never change. Their broadcast would be a collective step that one process repeats on a retry.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    set_seed(seed)
    return DistributedContext(accelerator, resolved)


def _empty(tensor: TensorInformation) -> torch.Tensor:
    # Accelerate's `initialize_tensors` fails on tensors without dimensions.
    return torch.empty(tuple(tensor.shape), dtype=tensor.dtype)


def _has_accelerator() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def has_bf16() -> bool:
    """Return True where bf16 matrix products run in hardware: newer GPUs, CPUs with avx512_bf16 or AMX.

    PyTorch emulates them elsewhere, several times slower than float32.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # PyTorch 2.13 has no public name for these.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def rng_state() -> dict[str, torch.Tensor]:
    """Return the states of the generators that dropout draws from, on this process."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_rng_state(states: Mapping[str, torch.Tensor]) -> None:
    """Set the generators to what `rng_state` returned; the state of a device that is absent here is ignored."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
