"""Checkpoint files of a run folder, which stay complete when the process is killed at any moment.

`checkpoints/step-N/` contains the newest complete state, `checkpoints/best-N/` the best weights, and
`checkpoints/generators/N-RANK.pt` the random states of each process. A folder is written under another name and
renamed; only then is its predecessor removed: a state by the next one, best weights by a state that names better ones.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trainer.core import artifacts
from trainer.core.errors import ModelError, shorten
from trainer.core.input_files import read_json

__all__ = ["TOKEN_IDS", "CheckpointStore"]

TOKEN_IDS = "pieces"  # noqa: S105  # a key of a dict, no password
"""Key of the trained token ids in a state: the name that the checkpoints of older versions have."""


class CheckpointStore:
    """Newest state and best weights of one run. Only the main process uses it; see `CheckpointStrategy`."""

    def __init__(self, run_folder: Path) -> None:
        self.folder = run_folder / artifacts.CHECKPOINTS

    def save_state(self, step: int, state: Mapping[str, Any]) -> None:
        """Write a state as the newest one and remove the others."""
        self._replace("step", step, lambda folder: torch.save(dict(state), folder / "state.pt"))
        self._remove_others("step", step)

    def save_rng_states(self, step: int, states: Sequence[Mapping[str, Any]]) -> None:
        """Write the random states of all processes, by rank, before the state of this step is saved."""
        folder = self.folder / "generators"
        folder.mkdir(parents=True, exist_ok=True)
        for rank, state in enumerate(states):
            _save_atomically(dict(state), folder / f"{step}-{rank}.pt")
        # Those of the newest state stay until the state of this step is complete.
        for old in folder.glob("*-*.pt"):
            if int(old.stem.split("-")[0]) < (self.newest_step() or 0):
                old.unlink()

    def save_best(self, step: int, weights: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
        """Write the best weights so far and JSON values about them; `keep_best` removes the others."""

        def write(folder: Path) -> None:
            save_file(
                # Safetensors refuses other layouts.
                {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()},
                folder / "model.safetensors",
            )
            (folder / "facts.json").write_text(json.dumps(dict(facts)), encoding="utf-8")

        self._replace("best", step, write)

    def keep_best(self, step: int) -> None:
        """Remove the best weights of all other steps. Call it after saving a state that names this step."""
        self._remove_others("best", step)

    def newest_step(self) -> int | None:
        """Return the step of the newest complete state; None when there is none."""
        return max((int(path.name.partition("-")[2]) for path in self.folder.glob("step-*")), default=None)

    def load_state(self) -> dict[str, Any] | None:
        """Return the newest complete state with its tensors on the CPU; None when there is none.

        Raises ModelError when it is damaged.
        """
        step = self.newest_step()
        if step is None:
            return None
        state: dict[str, Any] = _load(self.folder / f"step-{step}" / "state.pt")
        return state

    def load_rng_states(self, step: int) -> dict[int, dict[str, Any]]:
        """Return the random states at a step by rank."""
        paths = (self.folder / "generators").glob(f"{step}-*.pt")
        return {int(path.stem.split("-")[1]): _load(path) for path in paths}

    def load_best(self, step: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the best weights, saved at a step, and the values about them. Raises ModelError without them."""
        folder = self.folder / f"best-{step}"
        if not folder.is_dir():
            raise ModelError(
                f"The best weights, of step {step}, are missing in {self.folder}. Start the run again without resume."
            )
        with _readable(folder):
            return load_file(folder / "model.safetensors"), read_json(folder / "facts.json")

    def prune_to_final(self) -> None:
        """Shrink the newest state to what a finished training needs with its best weights: progress, no optimizer."""
        state = self.load_state()
        if state is None:
            return
        path = self.folder / f"step-{self.newest_step()}" / "state.pt"
        # TOKEN_IDS: a resumed run compares them before it looks for weights.
        _save_atomically({name: state[name] for name in (TOKEN_IDS, "progress")}, path)

    def clear(self) -> None:
        """Remove every checkpoint of a finished run."""
        shutil.rmtree(self.folder)

    def _replace(self, kind: str, step: int, write: Callable[[Path], None]) -> None:
        # A leading dot keeps a partial folder out of the patterns step-* and best-*.
        partial, final = self.folder / f".partial-{kind}-{step}", self.folder / f"{kind}-{step}"
        for left in self.folder.glob(".partial-*"):  # by a killed process, at any step
            shutil.rmtree(left)
        partial.mkdir(parents=True)
        with _explained_errors(self.folder):
            write(partial)
        shutil.rmtree(final, ignore_errors=True)  # a resumed run repeats steps, and a rename cannot replace a folder
        partial.replace(final)

    def _remove_others(self, kind: str, step: int) -> None:
        for old in self.folder.glob(f"{kind}-*"):
            if old.name != f"{kind}-{step}":
                shutil.rmtree(old)


def _load(path: Path) -> Any:
    with _readable(path):
        # Without weights_only, unpickling could run code.
        return torch.load(path, map_location="cpu", weights_only=True)


def _save_atomically(state: Mapping[str, Any], path: Path) -> None:
    partial = path.with_suffix(".partial")
    with _explained_errors(path.parent):
        torch.save(state, partial)
    partial.replace(path)  # a reader never sees half a file


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn errors of a damaged checkpoint into ModelError; torch raises a dozen types."""
    try:
        yield
    except Exception as error:
        raise ModelError(
            f"Cannot read the checkpoint {shorten(path)} ({shorten(error)}). Restore it, or start a new run."
        ) from error


@contextmanager
def _explained_errors(folder: Path) -> Iterator[None]:
    """Turn errors of a full or read-only disk into ModelError; torch and safetensors raise different types."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"Cannot write a checkpoint to {folder} ({error}). Free disk space or make the folder writable, then "
            "continue with resume=latest."
        ) from error
