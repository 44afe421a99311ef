"""Tokenizes texts into ragged arrays, cached on disk under a digest of all that they depend on."""

import hashlib
import json
import logging
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.core.errors import DataError

__all__ = ["TokenizedTexts", "tokenize"]

_FORMAT = 1  # part of the key: raise it when the meaning of the stored arrays changes
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenizedTexts:
    """The tokens of n texts in one array. Text i is `ids[offsets[i]:offsets[i + 1]]`, special tokens included."""

    ids: npt.NDArray[np.int32]
    """(total,) token ids."""
    offsets: npt.NDArray[np.int64]
    """(n + 1,), from 0 to total."""
    truncated: int
    """Texts that were longer than max_length."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(n,) tokens of each text."""
        return np.diff(self.offsets)

    @property
    def truncation_rate(self) -> float:
        """Fraction of texts that were truncated, in [0, 1]; an error for no texts."""
        return self.truncated / len(self)


def tokenize(
    texts: Sequence[str], tokenizer: Any, *, max_length: int, cache_folder: Path | None = None
) -> TokenizedTexts:
    """Return the tokens of the texts, each truncated to max_length with its special tokens complete.

    tokenizer: any tokenizer of transformers. cache_folder: caches the result under a digest of texts, tokenizer and
    max_length; None caches nothing. A damaged cache file is replaced.
    Raises DataError when the folder is not writable.
    """
    if cache_folder is None:
        return _tokenize(texts, tokenizer, max_length)
    path = cache_folder / f"{_key(texts, tokenizer, max_length)}.npz"
    tokens = _load(path, len(texts)) if path.exists() else None
    if tokens is None:
        tokens = _tokenize(texts, tokenizer, max_length)
        _save(path, tokens)
    return tokens


def _tokenize(texts: Sequence[str], tokenizer: Any, max_length: int) -> TokenizedTexts:
    # One token more than allowed shows which texts are too long; only those are tokenized a second time.
    tokens = _token_ids(texts, tokenizer, max_length + 1)
    long = [i for i, ids in enumerate(tokens) if len(ids) > max_length]
    for i, ids in zip(long, _token_ids([texts[i] for i in long], tokenizer, max_length), strict=True):
        tokens[i] = ids
    offsets = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
    flat = np.fromiter((token for ids in tokens for token in ids), dtype=np.int32, count=int(offsets[-1]))
    return TokenizedTexts(ids=flat, offsets=offsets, truncated=len(long))


def _token_ids(texts: Sequence[str], tokenizer: Any, max_length: int) -> list[list[int]]:
    if not texts:
        return []
    batch = tokenizer(
        list(texts),
        truncation=True,
        max_length=max_length,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    return list(batch["input_ids"])


def _key(texts: Sequence[str], tokenizer: Any, max_length: int) -> str:
    sha = hashlib.sha256(json.dumps([_FORMAT, max_length, list(texts)]).encode())
    sha.update(_tokenizer_state(tokenizer))
    return sha.hexdigest()


def _tokenizer_state(tokenizer: Any) -> bytes:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        state = json.loads(backend.to_str())
        # Both record the last call; the key must not depend on earlier texts.
        state["truncation"] = state["padding"] = None
        return json.dumps(state, sort_keys=True).encode()
    # A tokenizer without Rust backend has no JSON of its state.
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return b"\0".join(path.name.encode() + b"\0" + path.read_bytes() for path in files)


def _load(path: Path, count: int) -> TokenizedTexts | None:
    try:
        # Without pickle, which could run code from a shared cache folder.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            tokens = TokenizedTexts(ids=arrays["ids"], offsets=arrays["offsets"], truncated=int(arrays["truncated"]))
            consistent = len(tokens) == count and tokens.offsets[-1] == len(tokens.ids) and (tokens.lengths >= 0).all()
    # NumPy, zipfile and zlib raise all of these for damaged files.
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        _LOG.warning("The tokenized texts in %s are damaged (%s); they are tokenized again.", path, error)
        return None
    if not consistent:
        _LOG.warning("The tokenized texts in %s are inconsistent; they are tokenized again.", path)
        return None
    return tokens


def _save(path: Path, tokens: TokenizedTexts) -> None:
    aside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder: replacing is atomic within one file system only.
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            aside = Path(file.name)
            np.savez(file, ids=tokens.ids, offsets=tokens.offsets, truncated=np.int64(tokens.truncated))
        aside.replace(path)  # atomic, also while another process writes the same file
    except OSError as error:
        if aside is not None:
            aside.unlink(missing_ok=True)
        raise DataError(
            f"Cannot write tokenized texts to {path.parent} ({error}). "
            "Free disk space or make the folder writable, or choose another one with output."
        ) from error
