"""Digests of the texts that a model was trained on, kept with it so that an evaluation elsewhere can leave them out.

A digest is the first 8 bytes of the SHA-256 of the normalised text: 8 bytes a text, and of a million texts against a
million others one in 2^24 evaluations has a chance match. Whoever has the file cannot read the texts, but can test
whether a text that they guess was among them.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainer.core.errors import ModelError
from trainer.core.input_files import show_path
from trainer.data.dataset import Dataset
from trainer.data.overlap import normalise

__all__ = ["SeenTexts", "read_seen_texts"]

Digests = npt.NDArray[np.uint64]
_BYTES = 8


@dataclass(frozen=True, eq=False)
class SeenTexts:
    """Distinct digests of normalised texts, sorted."""

    train: Digests
    """Of the texts that weights were fitted on."""
    dev: Digests
    """Of the texts that calibration and thresholds were chosen on."""

    @classmethod
    def of(cls, dataset: Dataset) -> "SeenTexts":
        """Return the digests of what a training on this data set sees; none of its test."""
        return cls(_sorted_digests(dataset.trained_on.texts), _sorted_digests(dataset.dev.texts))

    def in_train(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return a mask (n,) of the texts that weights were fitted on."""
        return np.isin(_digests(texts), self.train)

    def in_dev(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return a mask (n,) of the texts that calibration and thresholds were chosen on."""
        return np.isin(_digests(texts), self.dev)

    def write(self, path: Path) -> Path:
        """Write the digests as a safetensors file and return its path."""
        from safetensors.numpy import save_file

        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"train": self.train, "dev": self.dev}, path)
        return path


def read_seen_texts(path: Path) -> SeenTexts:
    """Return what `SeenTexts.write` wrote. Raises ModelError for a file that is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
        return SeenTexts(*(np.asarray(arrays[name], np.uint64) for name in ("train", "dev")))
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"Cannot read the digests of training texts in {show_path(path)} ({error}). Restore the model's files."
        ) from error


def _digests(texts: Iterable[str]) -> Digests:
    parts = (hashlib.sha256(normalise(text).encode()).digest()[:_BYTES] for text in texts)
    return np.frombuffer(b"".join(parts), dtype="<u8").astype(np.uint64)  # `<`: the same on every machine


def _sorted_digests(texts: Iterable[str]) -> Digests:
    return np.unique(_digests(texts))
