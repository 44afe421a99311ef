"""How the processes of a run save and load checkpoints together."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn

from trainer.fit.checkpoint import CheckpointStore
from trainer.fit.distributed import DistributedContext, restore_rng_state, rng_state

__all__ = ["CheckpointStrategy", "ReplicatedCheckpoints"]


class CheckpointStrategy(Protocol):
    """Moves the state of a training between its processes and the run folder.

    Every process calls every method at the same step. `ReplicatedCheckpoints` serves processes that each contain the
    whole state; training that shards weights or optimizer over processes needs another implementation.
    """

    def newest_step(self) -> int:
        """Return the step of the newest state, 0 when there is none."""

    def state_dict(self, model: nn.Module, optimizer: Any = None) -> dict[str, Any]:
        """Return the state under `model`, and `optimizer` where one is given."""

    def load_state_dict(self, state: Mapping[str, Any], model: nn.Module, optimizer: Any = None) -> None:
        """Set model, and optimizer where one is given, to a state that `load` or `load_best` returned."""

    def save(self, step: int, state: Mapping[str, Any], *, best_step: int) -> None:
        """Write the newest state and the random states, then remove best weights of other steps than `best_step`."""

    def load(self) -> dict[str, Any] | None:
        """Return the newest state and restore the random state of this process; None when there is none."""

    def save_best(self, step: int, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Write the weights of `state` as the best so far, and JSON values about them."""

    def load_best(self, step: int) -> dict[str, Any]:
        """Return the state of the best weights, which were saved at `step`."""


class ReplicatedCheckpoints:
    """Checkpoints of processes that each contain the whole state.

    The main process alone reads and writes files and sends what it reads, so no shared file system is needed.
    """

    def __init__(self, context: DistributedContext, store: CheckpointStore) -> None:
        self._context, self._store = context, store

    def newest_step(self) -> int:
        """See `CheckpointStrategy`."""
        return int(self._context.broadcast(self._store.newest_step() if self._context.is_main else None) or 0)

    def state_dict(self, model: nn.Module, optimizer: Any = None) -> dict[str, Any]:
        """See `CheckpointStrategy`."""
        parts = {"model": model} if optimizer is None else {"model": model, "optimizer": optimizer}
        return {name: part.state_dict() for name, part in parts.items()}

    def load_state_dict(self, state: Mapping[str, Any], model: nn.Module, optimizer: Any = None) -> None:
        """See `CheckpointStrategy`."""
        model.load_state_dict(state["model"])
        if optimizer is not None:
            optimizer.load_state_dict(state["optimizer"])

    def save(self, step: int, state: Mapping[str, Any], *, best_step: int) -> None:
        """See `CheckpointStrategy`."""
        random_states = self._context.all_gather(rng_state())  # each process draws other dropout masks
        if self._context.is_main:
            self._store.save_rng_states(step, random_states)  # first: a complete state has its random states
            self._store.save_state(step, state)
            self._store.keep_best(best_step)  # last: until then the older state needs the older best weights

    def load(self) -> dict[str, Any] | None:
        """See `CheckpointStrategy`."""
        state: dict[str, Any] | None = None
        random_states: dict[int, dict[str, torch.Tensor]] = {}
        if self._context.is_main and (step := self._store.newest_step()) is not None:
            state, random_states = self._store.load_state(), self._store.load_rng_states(step)
        state = self._context.broadcast_tensors(state)
        mine = self._context.broadcast(random_states).get(self._context.rank)
        if mine:  # absent where a run continues on more processes than before
            restore_rng_state(mine)
        return state

    def save_best(self, step: int, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """See `CheckpointStrategy`."""
        if self._context.is_main:
            self._store.save_best(step, state["model"], facts)

    def load_best(self, step: int) -> dict[str, Any]:
        """See `CheckpointStrategy`."""
        weights = self._store.load_best(step)[0] if self._context.is_main else None
        return {"model": self._context.broadcast_tensors(weights)}
