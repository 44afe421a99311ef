"""Locates the encoder that the setting `model` names: starter, folder, config file, or hub id."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.core.errors import ModelError, SettingsError, nearest, shorten
from trainer.core.input_files import is_file, is_folder, read_json, show_path
from trainer.core.settings import quote
from trainer.model.config import STARTER, ModelConfig

__all__ = ["STARTER_FOLDER", "EncoderLocation", "locate_encoder"]

STARTER_FOLDER = Path(__file__).parent / "starter"
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_SHOWN = 60
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_IDS_WITHOUT_OWNER = re.compile(r"(albert|bert|camembert|distilbert|distilroberta|roberta|xlm-roberta)-[\w.-]+")
"""Of the hub's oldest models, which it still resolves; every other hub id is `owner/name`."""


@dataclass(frozen=True)
class EncoderLocation:
    """Where transformers reads an encoder and its tokenizer from: folders, or a hub id."""

    name: str
    """Value of the setting `model`."""
    config: str
    tokenizer: str
    weights: str | None
    """Folder or hub id; None = random weights."""
    options: dict[str, Any]
    """Arguments of `from_pretrained`."""
    is_local: bool


def locate_encoder(config: ModelConfig) -> EncoderLocation:
    """Return the location of the encoder of a configuration, without a call to the hub.

    Raises ModelError for a name that neither exists nor can be a hub id, or a folder without safetensors;
    SettingsError for the revision of a local model.
    """
    name = config.model
    path = STARTER_FOLDER if name == STARTER else _expanded(name)
    if is_file(path) and path.suffix == ".json":
        _check_json(path)
        return _local(config, str(path), path.parent, None)
    if is_folder(path):
        _check_weights(path)
        _check_json(path / "config.json")
        return _local(config, str(path), path, str(path))
    if name == STARTER or not _may_be_hub_id(name):
        _raise_missing(name, path)
    options = {"revision": config.model_revision} if config.model_revision else {}
    return EncoderLocation(name, name, name, name, options, is_local=False)


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # `~nobody`: there is no such user
        return Path(name)


def _check_json(path: Path) -> None:
    try:
        read_json(path)  # transformers never ends reading a pipe, and raises RecursionError for a deep file
    except ValueError as error:
        raise ModelError(f"Cannot read the config of `model`, {show_path(path)}: {error}.") from error


def _may_be_hub_id(name: str) -> bool:
    # Anything else would cost five retries of the hub's client before the error.
    if "/" not in name:
        return _IDS_WITHOUT_OWNER.fullmatch(name) is not None
    path = Path(name)
    return not (path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or path.suffix == ".json")


def _local(config: ModelConfig, config_path: str, folder: Path, weights: str | None) -> EncoderLocation:
    if config.model_revision:
        raise SettingsError(
            f"`model_revision` must be empty for the local model {shorten(config.model)}, got "
            f"{quote(config.model_revision)}. Only hub models have revisions."
        )
    # `make_starter` writes the vocabulary into a folder below the config file.
    tokenizer = folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder
    return EncoderLocation(
        config.model, config_path, str(tokenizer), weights, {"local_files_only": True}, is_local=True
    )


def _raise_missing(name: str, path: Path) -> None:
    if name == STARTER:
        raise ModelError(
            f"The starter encoder is missing at {path}. Restore the folder from the repository, or set `model` to "
            "another encoder."
        )
    raise ModelError(
        f"`model` must be `{STARTER}`, a folder, a config file, or a hub id `owner/name`, got {quote(name)}. "
        f"{shorten(path.absolute())} does not exist.{nearest(name, [STARTER])}"
    )


def _check_index(path: Path) -> None:
    """Raise ModelError unless an index names safetensors of its folder only: transformers unpickles other files."""
    try:
        files = {str(name) for name in json.loads(path.read_bytes())["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"Cannot read the index of weights {path} ({type(error).__name__}: {error}).") from error
    other = sorted(name for name in files if Path(name).name != name or not name.endswith(".safetensors"))
    if other:
        raise ModelError(
            f"The index of weights {path} must name .safetensors files of its folder only, got {other[0][:_SHOWN]}."
        )


def _check_weights(folder: Path) -> None:
    for index in folder.glob("*.safetensors.index.json"):
        _check_index(index)
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
