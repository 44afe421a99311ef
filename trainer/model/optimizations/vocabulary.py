"""Training on the embedding rows that the texts use, which is exact and spares the others' share of every step."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["UsedEmbedding", "restore_vocabulary", "trim_vocabulary", "used_pieces"]


class UsedEmbedding(nn.Embedding):
    """An embedding of which only some rows are parameters; ids are those of the whole one. The others are kept aside.

    AdamW never moves a row without a gradient when it does not decay (see `parameter_groups`), so training this one and
    writing its rows back equals training the whole one. An id that is not among its rows is an IndexError.
    """

    def __init__(self, whole: nn.Embedding, pieces: npt.NDArray[np.int64]) -> None:
        used = torch.from_numpy(pieces)
        places = torch.full((whole.num_embeddings,), len(pieces), dtype=torch.int64)
        places[used] = torch.arange(len(pieces))
        padding = None if whole.padding_idx is None else int(places[whole.padding_idx])
        super().__init__(len(pieces), whole.embedding_dim, padding, _weight=whole.weight.detach()[used].clone())
        # Not the optimizer's, not the checkpoint's, and not moved to the device.
        self._aside = (whole.weight.detach()[places == len(pieces)].clone(),)
        self._whole_padding = whole.padding_idx
        self.pieces = used
        self.places: Tensor
        self.register_buffer("places", places, persistent=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Embedding's name
        """Vectors (..., dim) of piece ids (...)."""
        return functional.embedding(self.places[input], self.weight, self.padding_idx)

    @torch.no_grad()
    def restored(self) -> nn.Embedding:
        """The whole embedding with the rows of this one, on its device."""
        (others,) = self._aside
        rows = self.weight.new_empty(len(self.places), self.embedding_dim)
        rows[self.places < len(self.pieces)] = self.weight.detach()
        rows[self.places == len(self.pieces)] = others.to(rows.device)
        return nn.Embedding(len(rows), self.embedding_dim, self._whole_padding, _weight=rows)


def trim_vocabulary(encoder: nn.Module, pieces: npt.NDArray[np.int64]) -> None:
    """Leave of the encoder's input embedding the rows of `pieces`, every id that it will be called with, and padding.

    Nothing happens to an encoder that has no plain input embedding, or that uses it a second time.
    """
    whole = _input_embedding(encoder)
    if not _is_plain(whole, encoder):
        return
    padding = [] if whole.padding_idx is None else [whole.padding_idx]
    _set_input_embedding(encoder, UsedEmbedding(whole, np.union1d(pieces, padding).astype(np.int64)))


def restore_vocabulary(encoder: nn.Module) -> None:
    """Put the whole input embedding back, with what its rows have learned."""
    used = _input_embedding(encoder)
    if isinstance(used, UsedEmbedding):
        _set_input_embedding(encoder, used.restored())


def used_pieces(encoder: nn.Module) -> Tensor:
    """Ids of the rows that are parameters, ascending; none when the embedding is whole."""
    used = _input_embedding(encoder)
    return used.pieces if isinstance(used, UsedEmbedding) else torch.empty(0, dtype=torch.int64)


def _is_plain(embedding: Any, encoder: nn.Module) -> bool:
    if type(embedding) is not nn.Embedding or embedding.max_norm is not None:
        return False
    return sum(parameter is embedding.weight for _, parameter in encoder.named_parameters(remove_duplicate=False)) == 1


def _input_embedding(encoder: nn.Module) -> Any:
    body: Any = encoder
    try:
        return body.get_input_embeddings()
    except (AttributeError, NotImplementedError):  # a module of one's own, or a model of transformers without one
        return None


def _set_input_embedding(encoder: nn.Module, embedding: nn.Embedding) -> None:
    body: Any = encoder
    body.set_input_embeddings(embedding)
