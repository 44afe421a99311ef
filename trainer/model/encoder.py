"""Loads encoders with transformers: in float32, with one dropout probability, and with no weight missing."""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedTokenizerBase

from trainer.core.errors import ModelError, SettingsError, nearest
from trainer.model.config import STARTER, ModelConfig
from trainer.model.deberta_attention import use_compact_attention
from trainer.model.optimizations.dropout import use_fast_dropout
from trainer.model.tokenizer import load_tokenizer

__all__ = ["STARTER_FOLDER", "hub_commit", "load_encoder", "max_tokens", "quiet"]

STARTER_FOLDER = Path(__file__).parent / "starter"
_TRANSFORMERS: Any = transformers  # partly annotated: mypy would refuse half of these calls
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_IDS_WITHOUT_OWNER = re.compile(r"(albert|bert|camembert|distilbert|distilroberta|roberta|xlm-roberta)-[\w.-]+")
"""Of the hub's oldest models, which it still resolves; every other hub id is `owner/name`."""
_DROPOUT = re.compile(r"(^|_)dropout(_prob|_rate|_p)?$")


def load_encoder(config: ModelConfig) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """Return the encoder and its tokenizer.

    The encoder is a float32 model of transformers on the CPU whose output has a `last_hidden_state` (b, t, hidden).
    It has no pooler: unused parameters would stop distributed training. A config file gives random weights from
    torch's generator: seed it first. Raises ModelError when the model does not exist, has no safetensors, lacks
    weights, is not an encoder, or does not fit its tokenizer; SettingsError for the revision of a local model.
    """
    source = _locate(config)
    with quiet(), _explained(source):
        encoder_config = _TRANSFORMERS.AutoConfig.from_pretrained(
            source.config, trust_remote_code=False, **source.options
        )
        _check_architecture(encoder_config, source)
        _set_dropout(encoder_config, config.dropout)
        encoder = _build(encoder_config, source)
        tokenizer = load_tokenizer(source.tokenizer, **source.options)
    _check_vocabulary(encoder, tokenizer, source)
    _choose_attention(encoder, config.attention, source)
    use_fast_dropout(encoder)
    if config.gradient_checkpointing:
        encoder.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    return encoder, tokenizer


def hub_commit(config: ModelConfig) -> str:
    """Return the commit of the hub model in the local cache, after `load_encoder`; empty for a local model."""
    source = _locate(config)
    if source.is_local:
        return ""
    hub = _TRANSFORMERS.utils.hub
    path = hub.cached_file(source.config, "config.json", local_files_only=True, **source.options)
    return str(hub.extract_commit_hash(path, None) or "")


def max_tokens(encoder: nn.Module) -> int | None:
    """Return the longest text in tokens, special ones included, that the encoder has positions for; None = any."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa counts positions from just above the padding id.
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    config: Any = encoder.config
    return None if getattr(config, "relative_attention", False) else int(config.max_position_embeddings)


@dataclass(frozen=True)
class _Source:
    name: str
    config: str
    tokenizer: str
    weights: str | None
    """Folder or hub id; None = random weights."""
    options: dict[str, Any]
    is_local: bool


def _locate(config: ModelConfig) -> _Source:
    name = config.model
    path = STARTER_FOLDER if name == STARTER else Path(name).expanduser()
    if path.is_file() and path.suffix == ".json":
        return _local(config, str(path), path.parent, None)
    if path.is_dir():
        _check_weights(path)
        return _local(config, str(path), path, str(path))
    if name == STARTER or not _may_be_hub_id(name):
        _raise_missing(name, path)
    options = {"revision": config.model_revision} if config.model_revision else {}
    return _Source(name, name, name, name, options, is_local=False)


def _may_be_hub_id(name: str) -> bool:
    # Anything else would cost five retries of the hub's client before the error.
    if "/" not in name:
        return _IDS_WITHOUT_OWNER.fullmatch(name) is not None
    path = Path(name)
    return not (path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or path.suffix == ".json")


def _local(config: ModelConfig, config_path: str, folder: Path, weights: str | None) -> _Source:
    if config.model_revision:
        raise SettingsError(
            f"`model_revision` must be empty for the local model {config.model}, got {config.model_revision}. "
            "Only hub models have revisions."
        )
    tokenizer = folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder
    return _Source(config.model, config_path, str(tokenizer), weights, {"local_files_only": True}, is_local=True)


def _raise_missing(name: str, path: Path) -> None:
    if name == STARTER:
        raise ModelError(
            f"The starter encoder is missing at {path}. Restore the folder from the repository, or set `model` to "
            "another encoder."
        )
    raise ModelError(
        f"`model` must be `{STARTER}`, a folder, a config file, or a hub id `owner/name`, got {name}. "
        f"{path.absolute()} does not exist.{nearest(name, [STARTER])}"
    )


def _check_weights(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    if names.intersection(_SAFETENSORS):
        return
    if names.intersection(_PICKLED):
        raise ModelError(
            f"`model` must have safetensors, got {folder}, a model folder without safetensors. Its pickled weights can "
            "run code when they are read. Load them where you trust them and save them again with `save_pretrained`."
        )
    raise ModelError(
        f"`model` must have safetensors, got {folder}, a model folder without safetensors. To start from random "
        "weights, set `model` to its config file."
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and the loading report of transformers; errors in the report are raised instead."""
    log = _TRANSFORMERS.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


@contextmanager
def _explained(source: _Source) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        advice = (
            "Make the folder with `save_pretrained`."
            if source.is_local
            else f"Download it once with a network: `hf download {source.name}`. Or set `model` to a local folder. A "
            "private model needs HF_TOKEN in the environment."
        )
        raise ModelError(
            f"transformers cannot load the model {source.name} ({type(error).__name__}): {str(error).strip()}\n{advice}"
        ) from error


def _check_architecture(config: Any, source: _Source) -> None:
    if config.is_encoder_decoder:
        raise ModelError(
            f"`model` must be an encoder, got {source.name} of type {config.model_type}, an encoder with a decoder. "
            "Choose a BERT, RoBERTa, DeBERTa, ELECTRA or similar."
        )


def _set_dropout(config: Any, dropout: float) -> None:
    for name, value in config.to_dict().items():
        if _DROPOUT.search(name) and (value is None or isinstance(value, int | float)):
            setattr(config, name, float(dropout))


def _build(config: Any, source: _Source) -> Any:
    options = _without_pooler(config)
    if source.weights is None:
        encoder = _TRANSFORMERS.AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False, **options)
    else:
        encoder, report = _TRANSFORMERS.AutoModel.from_pretrained(
            source.weights,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **source.options,
            **options,
        )
        _check_complete(report, source)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


def _without_pooler(config: Any) -> dict[str, bool]:
    architecture = _TRANSFORMERS.MODEL_MAPPING.get(type(config), None)
    accepts = architecture is not None and "add_pooling_layer" in inspect.signature(architecture.__init__).parameters
    return {"add_pooling_layer": False} if accepts else {}


def _check_complete(report: dict[str, Any], source: _Source) -> None:
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ModelError(
            f"The model {source.name} lacks {len(missing)} weights of the encoder, such as {', '.join(missing[:3])}. "
            "Its config.json may belong to another model."
        )


def _choose_attention(encoder: Any, attention: str, source: _Source) -> None:
    if attention == "stock":
        return
    if use_compact_attention(encoder) == 0 and attention == "compact":
        raise ModelError(
            "`attention=compact` needs a DeBERTa v1, v2 or v3 with relative attention and without talking heads; "
            f"{source.name} is of type {encoder.config.model_type}. Use `attention=auto`."
        )


def _check_vocabulary(encoder: Any, tokenizer: PreTrainedTokenizerBase, source: _Source) -> None:
    rows = encoder.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ModelError(
            f"The tokenizer of {source.name} has {len(tokenizer)} tokens, but its encoder has {rows} embeddings. "
            "The tokenizer may belong to another model."
        )
