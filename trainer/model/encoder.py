"""Loads encoders with transformers: in float32, with one dropout probability, and with no weight missing."""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedTokenizerBase

from trainer.core.errors import EmotionsError, ModelError, shorten
from trainer.model.config import ModelConfig
from trainer.model.deberta_attention import use_compact_attention
from trainer.model.location import EncoderLocation, locate_encoder
from trainer.model.optimizations.dropout import use_fast_dropout
from trainer.model.tokenizer import load_tokenizer

__all__ = ["hub_commit", "load_encoder", "max_tokens", "quiet"]

_TRANSFORMERS: Any = transformers  # partly annotated: mypy would refuse half of these calls
_MOST_SHOWN = 110  # characters of another library's reason
_DROPOUT = re.compile(r"(^|_)dropout(_prob|_rate|_p)?$")  # hidden_dropout_prob, attention_dropout, dropout_rate


def load_encoder(config: ModelConfig) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """Return the encoder and its tokenizer.

    The encoder is a float32 model of transformers on the CPU whose output has a `last_hidden_state` (b, t, hidden).
    It has no pooler: unused parameters would stop distributed training. A config file gives random weights from
    torch's generator: seed it first. Raises ModelError when the model does not exist, has no safetensors, lacks
    weights, is not an encoder, or does not fit its tokenizer; SettingsError for the revision of a local model.
    """
    location = locate_encoder(config)
    with quiet(), _explained(location):
        encoder_config = _TRANSFORMERS.AutoConfig.from_pretrained(
            location.config, trust_remote_code=False, **location.options
        )
        _check_architecture(encoder_config, location)
        _set_dropout(encoder_config, config.dropout)
        encoder = _build(encoder_config, location)
        tokenizer = load_tokenizer(location.tokenizer, **location.options)
        _check_usable(encoder, tokenizer, location)
        _check_vocabulary(encoder, tokenizer, location)
        _choose_attention(encoder, config.attention, location)
    use_fast_dropout(encoder)
    if config.gradient_checkpointing:
        encoder.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    return encoder, tokenizer


def hub_commit(config: ModelConfig) -> str:
    """Return the commit of the hub model in the local cache, after `load_encoder`; empty for a local model."""
    location = locate_encoder(config)
    if location.is_local:
        return ""
    hub = _TRANSFORMERS.utils.hub
    path = hub.cached_file(location.config, "config.json", local_files_only=True, **location.options)
    return str(hub.extract_commit_hash(path, None) or "")


def max_tokens(encoder: nn.Module) -> int | None:
    """Return the longest text in tokens, special ones included, that the encoder has positions for; None = any."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa counts positions from just above the padding id.
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    config: Any = encoder.config
    if getattr(config, "relative_attention", False):
        return None
    # XLNet says -1 and Funnel says nothing: both have relative positions without a limit.
    positions = getattr(config, "max_position_embeddings", None)
    return positions if positions and positions > 0 else None


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
def _explained(location: EncoderLocation) -> Iterator[None]:
    try:
        yield
    except EmotionsError:
        raise
    except Exception as error:  # each library that reads a file of the folder has errors of its own
        reason = " ".join(str(error).split())[:_MOST_SHOWN]
        raise ModelError(
            f"transformers cannot load a model ({type(error).__name__}: {reason}): {shorten(location.name, 60)}\n"
            f"{_advice(error, location)}"
        ) from error


def _advice(error: Exception, location: EncoderLocation) -> str:
    if location.is_local:
        return "Make the folder with `save_pretrained`."
    if isinstance(error, OSError) and "does not appear to have a file named model.safetensors" in str(error):
        # Online, transformers finds the safetensors that the hub converts; `hf download` does not fetch those.
        return (
            "The downloaded files have pickled weights only, which can run code when they are read. Train once with a "
            "network: the hub's safetensors are then kept in the cache. Or load the weights where you trust them, save "
            "model and tokenizer with `save_pretrained`, and set `model` to that folder."
        )
    return (
        f"Download it once with a network: `hf download {location.name}`. Or set `model` to a local folder. A private "
        "model needs HF_TOKEN in the environment."
    )


def _check_architecture(config: Any, location: EncoderLocation) -> None:
    if config.is_encoder_decoder:
        raise ModelError(
            f"`model` must be an encoder, got {location.name} of type {config.model_type}, an encoder with a decoder. "
            "Choose a BERT, RoBERTa, DeBERTa, ELECTRA or similar."
        )


def _set_dropout(config: Any, dropout: float) -> None:
    for name, value in config.to_dict().items():
        # None: classifier_dropout of BERT.
        if _DROPOUT.search(name) and (value is None or isinstance(value, int | float)):
            setattr(config, name, float(dropout))


def _build(config: Any, location: EncoderLocation) -> Any:
    options = _without_pooler(config)
    if location.weights is None:
        encoder = _TRANSFORMERS.AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False, **options)
    else:
        encoder, report = _TRANSFORMERS.AutoModel.from_pretrained(
            location.weights,
            config=config,
            dtype=torch.float32,  # transformers 5 takes the type of the config or file by default
            use_safetensors=True,  # pickled weights can run code
            trust_remote_code=False,
            output_loading_info=True,
            **location.options,
            **options,
        )
        _check_complete(report, location)
    if getattr(encoder, "pooler", None) is not None:
        # Of architectures without the argument. SqueezeBERT calls its pooler whatever it is, so None would not do.
        encoder.pooler = nn.Identity()
    return encoder


def _without_pooler(config: Any) -> dict[str, bool]:
    architecture = _TRANSFORMERS.MODEL_MAPPING.get(type(config), None)
    accepts = architecture is not None and "add_pooling_layer" in inspect.signature(architecture.__init__).parameters
    return {"add_pooling_layer": False} if accepts else {}


def _check_complete(report: dict[str, Any], location: EncoderLocation) -> None:
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ModelError(
            f"The model {location.name} lacks {len(missing)} weights of the encoder, such as {', '.join(missing[:3])}. "
            "Its config.json may belong to another model."
        )


def _choose_attention(encoder: Any, attention: str, location: EncoderLocation) -> None:
    if attention == "stock":
        return
    if use_compact_attention(encoder) == 0 and attention == "compact":
        raise ModelError(
            "`attention=compact` needs a DeBERTa v1, v2 or v3 with relative attention and without talking heads; "
            f"{location.name} is of type {encoder.config.model_type}. Use `attention=auto`."
        )


@torch.no_grad()
def _check_usable(encoder: Any, tokenizer: PreTrainedTokenizerBase, location: EncoderLocation) -> None:
    """Raise ModelError unless the encoder has a vector for each token of two padded texts.

    Transformers has encoders without word embeddings (CANINE), without a mask (FNet), and with outputs of other
    lengths; what they raise in the first step depends on the architecture, hence any exception.
    """
    batch = tokenizer(["One text.", "Another text, which is longer."], return_tensors="pt", padding=True)
    was_training = encoder.training
    try:
        encoder.get_input_embeddings()
        output = encoder.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        shape, cause = tuple(output.last_hidden_state.shape[:2]), ""
    except Exception as error:
        shape, cause = (), f" ({type(error).__name__}: {error})"
    finally:
        encoder.train(was_training)
    if shape != tuple(batch["input_ids"].shape):
        raise ModelError(
            f"`model` must be an encoder with a vector for each token, got {location.name} of type "
            f"{encoder.config.model_type}{cause[:200]}. Choose a BERT, RoBERTa, DeBERTa, ELECTRA or similar."
        )


def _check_vocabulary(encoder: Any, tokenizer: PreTrainedTokenizerBase, location: EncoderLocation) -> None:
    rows = encoder.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:  # more rows than tokens are usual, as in DeBERTa-v3
        raise ModelError(
            f"The tokenizer of {location.name} has {len(tokenizer)} tokens, but its encoder has {rows} embeddings. "
            "The tokenizer may belong to another model."
        )
