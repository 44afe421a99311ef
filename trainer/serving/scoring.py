"""Probabilities and labels of texts from the artifacts of a served model, without MLflow.

A served model has one or more members: saved classifiers of the same labels, each with its calibration. Its probability
is the mean of theirs. n texts, k labels.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainer.core.errors import ModelError
from trainer.data.batching import pad, sequential_batches
from trainer.data.tokenization import tokenize
from trainer.evaluation.calibration import Calibration
from trainer.model import saving
from trainer.model.optimizations import quantization

__all__ = ["SERVING", "Member", "Serving", "TextScorer", "read_serving"]

SERVING = "serving.json"
_KEYS = {"package", "thresholds", "default_policy", "members", "folder", "temperature", "bias", "max_length"}
_TOKENS_PER_BATCH = {"cpu": 1024, "cuda": 4096}  # padding included; more would not fit the caches of a CPU
_TEXTS_PER_SLICE = 8192  # tokenized together; bounds the memory of a call with many texts

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Member:
    """A saved classifier of a served model, and what was chosen for it on dev."""

    classifier: Path
    """Folder of `trainer.model.saving.save`."""
    calibration: Calibration
    max_length: int
    """Tokens per text, as in training."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """The parts of a served model."""

    members: tuple[Member, ...]
    thresholds: dict[str, list[float]]
    """Policy → k thresholds on the calibrated probabilities."""
    default_policy: str
    package: str
    """Name of the Python package in the model's code folder."""


def read_serving(artifacts: Path) -> Serving:
    """Return what `serving.json` in the artifacts of a model describes, also one that an older version wrote.

    Raises ModelError when it is missing or damaged, or when a member lies outside the artifacts.
    """
    try:
        content = json.loads((artifacts / SERVING).read_text(encoding="utf-8"))
        # Older versions wrote one classifier, with its facts at the top level.
        members = content.get("members", [{**content, "folder": "classifier"}])
        if unknown := sorted(set(content).union(*members) - _KEYS):  # it may change the answers
            raise ValueError(f"unknown entry {unknown[0]}, perhaps of a newer version")
        serving = Serving(
            members=tuple(
                Member(
                    classifier=_inside(artifacts, one["folder"]),
                    calibration=Calibration.of(one),
                    max_length=int(one["max_length"]),
                )
                for one in members
            ),
            thresholds={str(name): [float(value) for value in row] for name, row in content["thresholds"].items()},
            default_policy=str(content["default_policy"]),
            package=str(content["package"]),
        )
        _check(serving)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"Cannot read {artifacts / SERVING} ({type(error).__name__}: {error}). "
            "Take a model that this project has saved."
        ) from error
    return serving


class TextScorer:
    """A served model in memory."""

    def __init__(self, artifacts: Path, *, precision: str = quantization.PRECISIONS[0]) -> None:
        """Load the members from the artifacts of a model. int8 runs on the CPU, other precisions on a GPU if any.

        Runs no code of the model: it reads safetensors, tokenizer.json and JSON. Raises ModelError for damaged files.
        """
        serving = read_serving(artifacts)
        on_gpu = torch.cuda.is_available() and precision != "int8"
        self.precision, self.device = precision, torch.device("cuda" if on_gpu else "cpu")
        self.members = [_LoadedMember(member, self.device, precision) for member in serving.members]
        self.label_names: tuple[str, ...] = self.members[0].label_names
        self.thresholds = {name: np.asarray(row, dtype=np.float64) for name, row in serving.thresholds.items()}
        self.default_policy = serving.default_policy
        if any(member.label_names != self.label_names for member in self.members):
            raise ModelError("Cannot load the model: its members have different labels.")
        if any(len(row) != len(self.label_names) for row in self.thresholds.values()):
            raise ModelError("Cannot load the model: it does not have one threshold per label.")

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Return (n, k): the mean over the members of their calibrated probabilities."""
        parts = [texts[start : start + _TEXTS_PER_SLICE] for start in range(0, len(texts), _TEXTS_PER_SLICE)]
        rows = [np.mean([member.probabilities(part) for member in self.members], axis=0) for part in parts]
        return np.concatenate([np.zeros((0, len(self.label_names))), *rows])  # no texts: an empty table

    def labels(self, probabilities: Floats, thresholds: Floats, *, top_k: int = 0) -> list[list[str]]:
        """Return for each row of (n, k) the labels at or above their threshold, the most probable first.

        thresholds: (k,). top_k: at most this many labels per text; 0 = all.
        """
        names = np.asarray(self.label_names, dtype=object)
        order = np.argsort(-probabilities, axis=1, kind="stable")  # equal ones in the order of labels
        above = np.take_along_axis(probabilities >= thresholds, order, axis=1)
        return [names[best[chosen]][: top_k or None].tolist() for best, chosen in zip(order, above, strict=True)]


class _LoadedMember:
    def __init__(self, member: Member, device: torch.device, precision: str) -> None:
        self.member, self.device, self.precision = member, device, precision
        self.model, tokenizer, self.label_names = saving.load(member.classifier)
        self.tokenizer: Any = tokenizer
        if precision == "int8":
            quantization.use_int8(self.model.encoder)
        self.model.to(device)

    def probabilities(self, texts: Sequence[str]) -> Floats:
        tokens = tokenize(texts, self.tokenizer, max_length=self.member.max_length)
        logits = np.zeros((len(texts), len(self.label_names)), dtype=np.float32)
        for rows in sequential_batches(tokens.lengths, max_tokens=_TOKENS_PER_BATCH[self.device.type]):
            arrays = pad(tokens, rows, self.tokenizer.pad_token_id)
            logits[rows] = self._forward(*(torch.from_numpy(array).to(self.device) for array in arrays))
        return self.member.calibration.probabilities(logits)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor) -> npt.NDArray[np.float32]:
        with torch.inference_mode(), quantization.autocast(self.device, self.precision):
            logits: npt.NDArray[np.float32] = self.model(ids, mask).cpu().numpy()
        return logits


def _check(serving: Serving) -> None:
    if not serving.members:
        raise ValueError("it has no members")
    if serving.default_policy not in serving.thresholds:
        raise ValueError(f"it has no thresholds of its default policy {serving.default_policy}")
    for member in serving.members:
        if member.max_length < 1:
            raise ValueError("max_length of a member must be positive")


def _inside(artifacts: Path, name: str) -> Path:
    # A model under check may be foreign and must not make this process read other folders.
    if Path(name).name != name or name in {"", ".", ".."}:
        raise ValueError(f"a member's folder must be a plain name, got {name}")
    return artifacts / name
