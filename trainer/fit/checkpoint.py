"""Checkpoints on local disk that a kill at any moment leaves whole.

Below the run folder: `checkpoints/step-N/` (the newest complete state) and `checkpoints/best-N/` (the weights
chosen on dev). Each is written under another name and renamed into place, and only then is its predecessor removed:
a state by the next one, best weights once a state knows of better ones.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trainer.core import artifacts
from trainer.core.errors import ModelError

__all__ = ["CheckpointStore"]


class CheckpointStore:
    """Newest state and best weights of one run."""

    def __init__(self, run_folder: Path) -> None:
        self.folder = run_folder / artifacts.CHECKPOINTS

    def save_state(self, step: int, shared: Mapping[str, Any]) -> None:
        """Keep the state that all processes share as the newest one. Call it on the main process alone."""
        self._replace("step", step, lambda folder: torch.save(dict(shared), folder / "state.pt"))
        self._remove_others("step", step)

    def save_generators(self, step: int, rank: int, state: Mapping[str, Any]) -> None:
        """Keep the random states of one process beside the state about to be saved for `step`."""
        folder = self.folder / "generators"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{step}-{rank}.pt"
        with _readable_errors(self.folder):
            torch.save(dict(state), path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
        for old in folder.glob(f"*-{rank}.pt"):
            if int(old.stem.split("-")[0]) < (self.newest_step() or 0):
                old.unlink()

    def save_best(self, step: int, weights: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
        """Add weights that are the best so far, with facts about them as JSON; `keep_best` removes the others."""

        def write(folder: Path) -> None:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()},
                folder / "model.safetensors",
            )
            (folder / "facts.json").write_text(json.dumps(dict(facts)), encoding="utf-8")

        self._replace("best", step, write)

    def keep_best(self, step: int) -> None:
        """Remove all best weights but those of a step. Call it once a state that names this step is kept."""
        self._remove_others("best", step)

    def newest_step(self) -> int | None:
        """Step of the newest complete state, None when there is none."""
        return max((int(path.name.partition("-")[2]) for path in self.folder.glob("step-*")), default=None)

    def load_state(self) -> dict[str, Any] | None:
        """The newest complete state, its tensors on the CPU, None when there is none."""
        step = self.newest_step()
        if step is None:
            return None
        path = self.folder / f"step-{step}" / "state.pt"
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state

    def reduce(self) -> None:
        """Leave of the newest state what a run that has trained to its end is completed with, beside its best weights.

        `Loop` asks for no more of a state that has no weights. A kill leaves the state as it was.
        """
        state = self.load_state()
        if state is None:
            return
        path = self.folder / f"step-{self.newest_step()}" / "state.pt"
        with _readable_errors(self.folder):
            torch.save({name: state[name] for name in ("pieces", "progress")}, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)

    def load_generators(self, step: int, rank: int) -> dict[str, Any] | None:
        """Random states of one process at a step, None when that process was not there."""
        path = self.folder / "generators" / f"{step}-{rank}.pt"
        return torch.load(path, weights_only=True) if path.is_file() else None

    def load_best(self, step: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The best weights, found at a step, and the facts saved with them. Raises ModelError when they are gone."""
        folder = self.folder / f"best-{step}"
        if not folder.is_dir():
            raise ModelError(
                f"checkpoints must hold the best weights, but got none of {step=} in {str(self.folder)!r}."
            )
        return load_file(folder / "model.safetensors"), json.loads((folder / "facts.json").read_text(encoding="utf-8"))

    def clear(self) -> None:
        """Remove every checkpoint of a run that has ended well."""
        shutil.rmtree(self.folder)

    def _replace(self, kind: str, step: int, write: Callable[[Path], None]) -> None:
        partial, final = self.folder / f".partial-{kind}-{step}", self.folder / f"{kind}-{step}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with _readable_errors(self.folder):
            write(partial)
        shutil.rmtree(final, ignore_errors=True)
        partial.replace(final)

    def _remove_others(self, kind: str, step: int) -> None:
        for old in self.folder.glob(f"{kind}-*"):
            if old.name != f"{kind}-{step}":
                shutil.rmtree(old)


@contextmanager
def _readable_errors(folder: Path) -> Iterator[None]:
    """Say what a full or read-only disk means for the run; torch and safetensors each have an error of their own."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"checkpoint folder must be writable and have room, but got folder={str(folder)!r} ({error}). "
            "Free some space, then continue with resume=latest."
        ) from error
