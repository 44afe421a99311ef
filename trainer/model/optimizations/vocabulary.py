"""Training on the embedding rows of the tokens that occur in the data: exact, and less work in every step."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PrunedEmbedding", "active_token_ids", "prune_vocabulary", "restore_vocabulary"]


class PrunedEmbedding(nn.Embedding):
    """An embedding with only some rows of a whole one as parameters, called with the ids of the whole one.

    AdamW does not move a row that has no gradient and no weight decay (see `parameter_groups`), so training this
    embedding and restoring the whole one equals training the whole one. The id of a missing row is an IndexError.
    """

    def __init__(self, whole: nn.Embedding, token_ids: npt.NDArray[np.int64]) -> None:
        active = torch.from_numpy(token_ids)
        # A missing id gets a place beyond the last row: an IndexError, not another token's vector.
        places = torch.full((whole.num_embeddings,), len(token_ids), dtype=torch.int64)
        places[active] = torch.arange(len(token_ids))
        padding = None if whole.padding_idx is None else int(places[whole.padding_idx])
        super().__init__(len(token_ids), whole.embedding_dim, padding, _weight=whole.weight.detach()[active].clone())
        # In a tuple, so that the other rows are no buffer: not in checkpoints, and not moved to the device.
        self._other_rows = (whole.weight.detach()[places == len(token_ids)].clone(),)
        self._whole_padding = whole.padding_idx
        self.token_ids = active
        self.places: Tensor
        self.register_buffer("places", places, persistent=False)  # token_ids determine it

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Embedding's name
        """Return the vectors (..., dim) of token ids (...)."""
        return functional.embedding(self.places[input], self.weight, self.padding_idx)

    @torch.no_grad()
    def restored(self) -> nn.Embedding:
        """Return the whole embedding with the rows of this one, on its device."""
        (others,) = self._other_rows
        rows = self.weight.new_empty(len(self.places), self.embedding_dim)
        rows[self.places < len(self.token_ids)] = self.weight.detach()
        rows[self.places == len(self.token_ids)] = others.to(rows.device)
        return nn.Embedding(len(rows), self.embedding_dim, self._whole_padding, _weight=rows)


def prune_vocabulary(encoder: nn.Module, token_ids: npt.NDArray[np.int64]) -> None:
    """Keep of the encoder's input embedding the rows of `token_ids` and of padding; it may be called with these only.

    An encoder without a plain input embedding, or with a second use of it, stays as it is.
    """
    whole = _input_embedding(encoder)
    if not _is_plain(whole, encoder):
        return
    padding = [] if whole.padding_idx is None else [whole.padding_idx]
    _set_input_embedding(encoder, PrunedEmbedding(whole, np.union1d(token_ids, padding).astype(np.int64)))


def restore_vocabulary(encoder: nn.Module) -> None:
    """Replace the pruned input embedding by the whole one with the trained rows."""
    pruned = _input_embedding(encoder)
    if isinstance(pruned, PrunedEmbedding):
        _set_input_embedding(encoder, pruned.restored())


def active_token_ids(encoder: nn.Module) -> Tensor:
    """Return the token ids whose rows are parameters, ascending; empty when the embedding is whole."""
    embedding = _input_embedding(encoder)
    return embedding.token_ids if isinstance(embedding, PrunedEmbedding) else torch.empty(0, dtype=torch.int64)


def _is_plain(embedding: Any, encoder: nn.Module) -> bool:
    # A subclass may compute otherwise; max_norm changes rows that are looked up.
    if type(embedding) is not nn.Embedding or embedding.max_norm is not None:
        return False
    # A second use, such as tied output weights, would need the rows that are missing.
    return sum(parameter is embedding.weight for _, parameter in encoder.named_parameters(remove_duplicate=False)) == 1


def _input_embedding(encoder: nn.Module) -> Any:
    body: Any = encoder
    try:
        return body.get_input_embeddings()
    except (AttributeError, NotImplementedError):  # not a model of transformers, or one without
        return None


def _set_input_embedding(encoder: nn.Module, embedding: nn.Embedding) -> None:
    body: Any = encoder
    body.set_input_embeddings(embedding)
