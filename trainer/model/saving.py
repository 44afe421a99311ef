"""Saves and loads a trained classifier: `encoder/` with its tokenizer as transformers saves them, head, description."""

import json
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase

from trainer.core.errors import ModelError
from trainer.core.input_files import read_json
from trainer.model.classifier import EmotionClassifier
from trainer.model.config import ModelConfig
from trainer.model.encoder import load_encoder, quiet

__all__ = ["DESCRIPTION", "ENCODER", "HEAD", "load", "save"]

ENCODER = "encoder"
HEAD = "head.safetensors"
DESCRIPTION = "classifier.json"
_FORMAT = 1
_VERSIONS = ("torch", "transformers", "tokenizers", "safetensors")


def save(
    model: EmotionClassifier,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    label_names: Sequence[str],
    extra: Mapping[str, Any],
) -> None:
    """Write the classifier to `folder` and replace its content, completely or not at all.

    extra: JSON values for classifier.json, such as max_length. `folder / "encoder"` is a model folder for `AutoModel`
    and for the setting `model`. Raises ModelError when it cannot be written.
    """
    if len(label_names) != model.head.num_logits:
        raise ModelError(
            f"`label_names` must have {model.head.num_logits} names, one per logit, got {len(label_names)}."
        )
    # A sibling: a rename is atomic within one file system only.
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        _write(model, tokenizer, aside, label_names, extra)
        _replace(folder, aside)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise ModelError(
            f"Cannot write the model to {folder} ({error}). Free disk space or fix the permission, then resume the run."
        ) from error


def load(folder: Path) -> tuple[EmotionClassifier, PreTrainedTokenizerBase, tuple[str, ...]]:
    """Return the classifier that `save` wrote, in evaluation mode, its tokenizer and label names.

    Its logits are bit for bit those of the saved one. Raises ModelError when a file is missing or damaged, or when
    weights are missing or left over.
    """
    try:
        return _load(folder)
    except ModelError:
        raise
    except Exception as error:  # for damaged files, transformers raises errors of any class
        raise ModelError(f"The saved classifier {folder} is damaged ({type(error).__name__}: {error}).") from error


def _load(folder: Path) -> tuple[EmotionClassifier, PreTrainedTokenizerBase, tuple[str, ...]]:
    description = _read_description(folder)
    encoder_folder = folder / ENCODER
    config = ModelConfig(model=str(encoder_folder), pooling=description["pooling"], dropout=description["dropout"])
    encoder, tokenizer = load_encoder(config)
    # Transformers ignores weights that are left over.
    _check_same_keys(encoder_folder / "model.safetensors", set(encoder.state_dict()))
    label_names = tuple(description["label_names"])
    if not all(isinstance(name, str) for name in label_names):
        raise TypeError("label_names must be texts")
    model = EmotionClassifier(encoder, len(label_names), pooling=config.pooling, dropout=config.dropout)
    _load_head(model, folder / HEAD)
    return model.eval(), tokenizer, label_names


def _write(
    model: EmotionClassifier,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    label_names: Sequence[str],
    extra: Mapping[str, Any],
) -> None:
    encoder: Any = model.encoder
    with quiet():
        # One file, which `load` compares with the architecture.
        encoder.save_pretrained(folder / ENCODER, max_shard_size="1TB")
        _forget_last_call(tokenizer)
        tokenizer.save_pretrained(folder / ENCODER)
    save_file(_contiguous(model.head), folder / HEAD)
    description = {
        "format": _FORMAT,
        "label_names": list(label_names),
        "pooling": model.pooling,
        "dropout": model.dropout.p,
        "versions": {name: metadata.version(name) for name in _VERSIONS},
        "extra": dict(extra),
    }
    # allow_nan=False: JSON has no NaN, and other readers would fail.
    text = json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
    for weights in folder.rglob("*.safetensors"):
        # safetensors makes them readable by their owner only; a server under another user must read them too
        weights.chmod(stat.S_IMODE((folder / DESCRIPTION).stat().st_mode))


def _forget_last_call(tokenizer: Any) -> None:
    # tokenizer.json would keep the truncation and padding of the last call as defaults.
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()


def _contiguous(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    # Safetensors refuses other layouts.
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def _replace(folder: Path, aside: Path) -> None:
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)  # a rename cannot replace a folder with files
    aside.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        description: dict[str, Any] = read_json(path)
    except ValueError as error:
        raise ModelError(f"Cannot read the saved classifier {path} ({error}).") from error
    if description.get("format") != _FORMAT:
        raise ModelError(
            f"The saved classifier {path} has format {description.get('format')}; this version reads format {_FORMAT}. "
            "Load it with the version of this project that saved it."
        )
    return description


def _load_head(model: EmotionClassifier, path: Path) -> None:
    try:
        weights = load_file(path)
        model.head.load_state_dict(weights, strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"Cannot load a head for the labels of the saved classifier from {path} ({error}).") from error


def _check_same_keys(path: Path, expected: set[str]) -> None:
    with safe_open(path, framework="pt") as weights:
        keys = set(weights.keys())
    if keys != expected:
        left_over, missing = (", ".join(sorted(names)[:3]) or "none" for names in (keys - expected, expected - keys))
        raise ModelError(
            f"The weights in {path} are not those of the encoder's architecture: left over {left_over}; "
            f"missing {missing}."
        )
