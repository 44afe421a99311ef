"""Texts to pieces, once per data set: ragged arrays, kept on disk under a digest of everything they depend on."""

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
    """n encoded texts, one after another. Row i is `ids[offsets[i]:offsets[i + 1]]`, special pieces included."""

    ids: npt.NDArray[np.int32]
    """(total,) piece ids."""
    offsets: npt.NDArray[np.int64]
    """(n + 1,), from 0 to total."""
    truncated: int
    """Texts that were longer than max_length."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(n,) pieces of each text."""
        return np.diff(self.offsets)

    @property
    def truncation_rate(self) -> float:
        """Share of texts that were cut, in [0, 1]; an error when there is none."""
        return self.truncated / len(self)


def tokenize(
    texts: Sequence[str], tokenizer: Any, *, max_length: int, cache_folder: Path | None = None
) -> TokenizedTexts:
    """Return the pieces of the texts, each cut to max_length with its special pieces whole.

    tokenizer: any tokenizer of transformers. cache_folder: where the result is kept and looked for under a digest of
    texts, tokenizer and max_length; None keeps nothing. A damaged file there is made anew.
    Raises DataError when the folder cannot be written.
    """
    if cache_folder is None:
        return _tokenize(texts, tokenizer, max_length)
    path = cache_folder / f"{_key(texts, tokenizer, max_length)}.npz"
    encoded = _load(path, len(texts)) if path.exists() else None
    if encoded is None:
        encoded = _tokenize(texts, tokenizer, max_length)
        _save(path, encoded)
    return encoded


def _tokenize(texts: Sequence[str], tokenizer: Any, max_length: int) -> TokenizedTexts:
    # One piece more than allowed tells which texts are too long; only those are encoded a second time.
    rows = _piece_ids(texts, tokenizer, max_length + 1)
    long = [i for i, row in enumerate(rows) if len(row) > max_length]
    for i, row in zip(long, _piece_ids([texts[i] for i in long], tokenizer, max_length), strict=True):
        rows[i] = row
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    ids = np.fromiter((piece for row in rows for piece in row), dtype=np.int32, count=int(offsets[-1]))
    return TokenizedTexts(ids=ids, offsets=offsets, truncated=len(long))


def _piece_ids(texts: Sequence[str], tokenizer: Any, max_length: int) -> list[list[int]]:
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
        # Both only remember the last call; they would make the key depend on what was encoded before.
        state["truncation"] = state["padding"] = None
        return json.dumps(state, sort_keys=True).encode()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return b"\0".join(path.name.encode() + b"\0" + path.read_bytes() for path in files)


def _load(path: Path, count: int) -> TokenizedTexts | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            encoded = TokenizedTexts(ids=arrays["ids"], offsets=arrays["offsets"], truncated=int(arrays["truncated"]))
            whole = len(encoded) == count and encoded.offsets[-1] == len(encoded.ids) and (encoded.lengths >= 0).all()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        _LOG.warning("encoded texts in %s are damaged (%s) and are made anew", path, error)
        return None
    if not whole:
        _LOG.warning("encoded texts in %s do not fit together and are made anew", path)
        return None
    return encoded


def _save(path: Path, encoded: TokenizedTexts) -> None:
    aside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            aside = Path(file.name)
            np.savez(file, ids=encoded.ids, offsets=encoded.offsets, truncated=np.int64(encoded.truncated))
        aside.replace(path)  # whole or not at all, also beside another process
    except OSError as error:
        if aside is not None:
            aside.unlink(missing_ok=True)
        raise DataError(
            f"cache folder must be writable and have room, but got folder={str(path.parent)!r} ({error}). "
            "Free space, or choose another folder."
        ) from error
