"""DeBERTa's disentangled attention over the relative positions that a batch can have: exact, and on the stock weights.

He et al. 2021 (arXiv:2006.03654), as transformers 5.23 computes it for DeBERTa v1, v2 and v3. The stock code scores
each token against all relative positions of the table and gathers the few that it needs. A batch of t tokens needs
2t - 1 of them. A score depends on the distance alone, so gathering is a shift of rows, which is a view.

b texts, t tokens, h heads of dimension d, w distances.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.models.deberta.modeling_deberta import DisentangledSelfAttention as DebertaAttention
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention as DebertaV2Attention

__all__ = [
    "CompactDebertaAttention",
    "CompactDebertaV2Attention",
    "CompactRelativeAttention",
    "attention_of",
    "use_compact_attention",
]


class CompactRelativeAttention(nn.Module):
    """The part that both generations share. Mixed into a stock module; uses its parameters under their names."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the context (b, t, h * d), and the probabilities (b, h, t, t) with output_attentions.

        hidden_states: (b, t, hidden). attention_mask: (b, 1, t, t), true where a token attends. relative_pos:
        (1, t, t) buckets of distances. rel_embeddings: (slots, hidden). Calls with query_states run the stock code.
        """
        if query_states is not None or relative_pos is None or rel_embeddings is None:
            stock: Any = super()
            answer: tuple[Tensor, Tensor | None] = stock.forward(
                hidden_states, attention_mask, output_attentions, query_states, relative_pos, rel_embeddings
            )
            return answer
        layer: Any = self
        b, t, _ = hidden_states.shape
        query, key, value = self._project(hidden_states)
        # Rounded to float32 as in the stock modules, also in float64.
        scale = 1 / float(np.sqrt(np.float32(query.shape[-1] * self._num_parts())))
        query = query * scale
        scores = torch.matmul(query, key.transpose(-1, -2))
        # The query is scaled already; position to content reads the key.
        for bias in self._biases(query, key * scale, relative_pos, rel_embeddings):
            scores = scores + bias
        hidden_tokens = ~attention_mask.bool().transpose(0, 1)
        # Not -inf, as in the stock modules: a row of padding alone would become NaN.
        scores = scores.masked_fill(hidden_tokens, torch.finfo(scores.dtype).min)
        probabilities, attentions = layer.dropout(torch.softmax(scores, dim=-1)), None
        if output_attentions:
            # The context is computed from what is returned, so that gradients reach it; both are views.
            attentions = probabilities.transpose(0, 1)
            probabilities = attentions.transpose(0, 1)
        context = torch.matmul(probabilities, value).permute(1, 2, 0, 3).reshape(b, t, -1)
        return context, attentions

    def _project(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value, each (h, b, t, d) and contiguous: one product serves all texts of a head."""
        raise NotImplementedError

    def _num_parts(self) -> int:
        """Return the number of scores that are summed, that of content to content included."""
        raise NotImplementedError

    def _position_keys(self, table: Tensor) -> Tensor:
        """Return the keys (w, h * d) of positions (w, hidden)."""
        raise NotImplementedError

    def _position_queries(self, table: Tensor) -> Tensor:
        """Return the queries (w, h * d) of positions (w, hidden)."""
        raise NotImplementedError

    def _span(self) -> tuple[int, int]:
        """Return the slots on either side of distance 0, and the largest distance up to which no two share a slot."""
        raise NotImplementedError

    def _biases(self, query: Tensor, key: Tensor, relative_pos: Tensor, rel_embeddings: Tensor) -> list[Tensor]:
        """Return the scores (h, b, t, t) of content to position and position to content, where the model has them."""
        layer: Any = self
        slots = self._slots(query.shape[2], relative_pos)
        if isinstance(slots, slice):  # the rows are adjacent: dropout and projection of these alone
            rel_embeddings, slots = rel_embeddings[slots], slice(None)
        table = layer.pos_dropout(rel_embeddings)
        biases = []
        if "c2p" in layer.pos_att_type:
            # In row i the column of token j is that of distance i - j, which falls as j grows.
            biases.append(_shift_rows(_score_positions(query, self._position_keys(table)[slots].flip(0))))
        if "p2c" in layer.pos_att_type:
            # Row j is that of a key here; the distance i - j rises with the query i, so the order stays.
            biases.append(_shift_rows(_score_positions(key, self._position_queries(table)[slots])).transpose(-1, -2))
        return biases

    def _slots(self, t: int, relative_pos: Tensor) -> Tensor | slice:
        """Return the rows of the position table for the distances 1 - t to t - 1."""
        span, own = self._span()
        if t - 1 <= own:  # a slice is a view; selection by index would copy
            return slice(span - t + 1, span + t)
        # Row 0 has the distances 0 to 1 - t, column 0 those from 0 to t - 1.
        buckets = torch.cat([relative_pos[0, 0, 1:].flip(0), relative_pos[0, :, 0]])
        return (buckets + span).clamp(0, 2 * span - 1)


class CompactDebertaAttention(CompactRelativeAttention, DebertaAttention):
    """The attention of a DeBERTa v1 layer."""

    def _project(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, t, _ = hidden_states.shape
        together = self.in_proj(hidden_states).view(b, t, self.num_attention_heads, -1).permute(2, 0, 1, 3)
        query, key, value = (part.contiguous() for part in together.chunk(3, dim=-1))
        by_head = (self.num_attention_heads, 1, 1, -1)
        return query + self.q_bias.view(by_head), key, value + self.v_bias.view(by_head)

    def _num_parts(self) -> int:
        return 1 + len(self.pos_att_type)  # v1 counts every name, v2 only the two that it computes

    def _position_keys(self, table: Tensor) -> Tensor:
        keys: Tensor = self.pos_proj(table)
        return keys

    def _position_queries(self, table: Tensor) -> Tensor:
        queries: Tensor = self.pos_q_proj(table)
        return queries

    def _span(self) -> tuple[int, int]:
        return self.max_relative_positions, self.max_relative_positions - 1  # v1 has no buckets


class CompactDebertaV2Attention(CompactRelativeAttention, DebertaV2Attention):
    """The attention of a DeBERTa v2 or v3 layer."""

    def _project(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, t, _ = hidden_states.shape
        projected = (project(hidden_states) for project in (self.query_proj, self.key_proj, self.value_proj))
        query, key, value = (
            p.view(b, t, self.num_attention_heads, -1).permute(2, 0, 1, 3).contiguous() for p in projected
        )
        return query, key, value

    def _num_parts(self) -> int:
        return 1 + len({"c2p", "p2c"}.intersection(self.pos_att_type))

    def _position_keys(self, table: Tensor) -> Tensor:
        keys: Tensor = (self.key_proj if self.share_att_key else self.pos_key_proj)(table)
        return keys

    def _position_queries(self, table: Tensor) -> Tensor:
        queries: Tensor = (self.query_proj if self.share_att_key else self.pos_query_proj)(table)
        return queries

    def _span(self) -> tuple[int, int]:
        span = self.pos_ebd_size
        # Up to half of the buckets no two distances share a slot.
        return span, self.position_buckets // 2 if self.position_buckets > 0 else span - 1


def use_compact_attention(encoder: nn.Module) -> int:
    """Replace the stock relative attention of every DeBERTa layer and return how many layers have the compact one.

    Parameters and their names stay. Layers of v1 with talking heads keep the stock attention.
    """
    count = 0
    for module in encoder.modules():
        layer: Any = module
        # Not isinstance: a subclass may compute other scores.
        if type(layer) is DebertaAttention and layer.relative_attention and not layer.talking_head:
            layer.__class__ = CompactDebertaAttention  # keeps the parameters and their names
        elif type(layer) is DebertaV2Attention and layer.relative_attention:
            layer.__class__ = CompactDebertaV2Attention
        count += isinstance(layer, CompactRelativeAttention)
    return count


def attention_of(encoder: Any) -> str:
    """Return `compact`, or `stock` for a DeBERTa without it, or the kind that transformers chose for another model."""
    layers = [module for module in encoder.modules() if isinstance(module, DebertaAttention | DebertaV2Attention)]
    if not layers:
        return str(encoder.config._attn_implementation)
    return "compact" if all(isinstance(layer, CompactRelativeAttention) for layer in layers) else "stock"


def _score_positions(content: Tensor, positions: Tensor) -> Tensor:
    """Return the scores (h, b, t, w) of content (h, b, t, d) with positions (w, h * d)."""
    h, b, t, d = content.shape
    by_head = positions.view(-1, h, d).permute(1, 2, 0)
    return torch.bmm(content.view(h, b * t, d), by_head).view(h, b, t, -1)


def _shift_rows(scores: Tensor) -> Tensor:
    """Return a view (h, b, t, t) whose row i is row i of `scores` (h, b, t, 2t - 1) from column t - 1 - i on.

    Each row starts one cell earlier than the row above, so in memory rows are 2t - 2 cells apart. `scores` must be the
    tensor that `_score_positions` returned, contiguous and with no other view on it.
    """
    h, b, t, w = scores.shape
    return scores.as_strided((h, b, t, t), (b * t * w, t * w, w - 1, 1), t - 1)
