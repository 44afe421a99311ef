"""Checkpoints on local disk that a kill at any moment leaves whole.

Below the run folder: `checkpoints/step-N/` (the newest complete state) and `checkpoints/best-N/` (the weights
chosen on dev). Each is written under another name and renamed into place, and only then is its predecessor removed.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from trainer.core.errors import ModelError

__all__ = ["CheckpointStore"]


class CheckpointStore:
    """Newest state and best weights of one run."""

    def __init__(self, run_folder: Path) -> None:
        self.folder = run_folder / "checkpoints"

    def save_state(self, step: int, shared: Mapping[str, Any]) -> None:
        """Keep the state that all processes share as the newest one. Call it on the main process alone."""
        self._replace("step", step, lambda folder: torch.save(dict(shared), folder / "state.pt"))

    def save_generators(self, step: int, rank: int, state: Mapping[str, Any]) -> None:
        """Keep the random states of one process beside the state about to be saved for `step`."""
        folder = self.folder / "generators"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{step}-{rank}.pt"
        torch.save(dict(state), path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
        for old in folder.glob(f"*-{rank}.pt"):
            if int(old.stem.split("-")[0]) < (self.newest_step() or 0):
                old.unlink()

    def save_best(self, step: int, weights: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
        """Keep weights as the best so far, with facts about them as JSON."""

        def write(folder: Path) -> None:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()},
                folder / "model.safetensors",
            )
            (folder / "facts.json").write_text(json.dumps(dict(facts)), encoding="utf-8")

        self._replace("best", step, write)

    def newest_step(self) -> int | None:
        """Step of the newest complete state, None when there is none."""
        return self._newest("step")

    def load_state(self, device: torch.device) -> dict[str, Any] | None:
        """The newest complete state, None when there is none."""
        step = self.newest_step()
        if step is None:
            return None
        state: dict[str, Any] = torch.load(
            self.folder / f"step-{step}" / "state.pt", map_location=device, weights_only=True
        )
        return state

    def load_generators(self, step: int, rank: int) -> dict[str, Any] | None:
        """Random states of one process at a step, None when that process was not there."""
        path = self.folder / "generators" / f"{step}-{rank}.pt"
        return torch.load(path, weights_only=True) if path.is_file() else None

    def load_best(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The best weights and the facts saved with them. Raises ModelError when there are none."""
        step = self._newest("best")
        if step is None:
            raise ModelError(f"checkpoints must hold the best weights, but got none in {str(self.folder)!r}.")
        folder = self.folder / f"best-{step}"
        return load_file(folder / "model.safetensors"), json.loads((folder / "facts.json").read_text(encoding="utf-8"))

    def clear(self) -> None:
        """Remove every checkpoint of a run that has ended well."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _newest(self, kind: str) -> int | None:
        steps = [int(path.name.partition("-")[2]) for path in self.folder.glob(f"{kind}-*")]
        return max(steps, default=None)

    def _replace(self, kind: str, step: int, write: Callable[[Path], None]) -> None:
        partial, final = self.folder / f".partial-{kind}-{step}", self.folder / f"{kind}-{step}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(partial)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)  # noqa: PTH105  # the one call that is atomic for folders
        for old in self.folder.glob(f"{kind}-*"):
            if old != final:
                shutil.rmtree(old)
