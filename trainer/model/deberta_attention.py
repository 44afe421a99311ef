"""DeBERTa's disentangled attention over the positions that a batch can reach; exact, trainable, no copy of weights.

He et al. 2021 (arXiv:2006.03654), as transformers 5.23 computes it for DeBERTa v1, v2 and v3. Stock code scores each
piece against far more relative positions than there are in a text, and gathers the few it needs. A batch of t pieces
needs 2t - 1 of them, and a score depends on the distance alone, so gathering is a shift of rows, a mere view.

b texts, t pieces, h heads of dimension d, w distances.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.models.deberta.modeling_deberta import DisentangledSelfAttention as FirstAttention
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention as SecondAttention

__all__ = ["FirstWindowAttention", "SecondWindowAttention", "WindowAttention", "attention_of", "use_window_attention"]


class WindowAttention(nn.Module):
    """What both generations share. Mixed into a stock module, whose parameters it uses under their own names."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the context (b, t, h * d), and the probabilities (b, h, t, t) when asked.

        hidden_states: (b, t, hidden). attention_mask: (b, 1, t, t), true where a piece may look. relative_pos:
        (1, t, t) buckets of distances. rel_embeddings: (slots, hidden). Queries of their own take the stock way.
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
        for bias in self._biases(query, key * scale, relative_pos, rel_embeddings):
            scores = scores + bias
        hidden_pieces = ~attention_mask.bool().transpose(0, 1)
        scores = scores.masked_fill(hidden_pieces, torch.finfo(scores.dtype).min)
        probabilities = layer.dropout(torch.softmax(scores, dim=-1))
        context = torch.matmul(probabilities, value).permute(1, 2, 0, 3).reshape(b, t, -1)
        return context, probabilities.transpose(0, 1) if output_attentions else None

    def _project(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each (h, b, t, d) and contiguous: all texts meet the positions of a head at once."""
        raise NotImplementedError

    def _num_parts(self) -> int:
        """Scores that are added up, the content's own among them."""
        raise NotImplementedError

    def _position_keys(self, table: Tensor) -> Tensor:
        """Keys (w, h * d) of positions (w, hidden)."""
        raise NotImplementedError

    def _position_queries(self, table: Tensor) -> Tensor:
        """Queries (w, h * d) of positions (w, hidden)."""
        raise NotImplementedError

    def _span(self) -> tuple[int, int]:
        """Slots on either side of distance 0, and up to which distance each has a slot of its own."""
        raise NotImplementedError

    def _biases(self, query: Tensor, key: Tensor, relative_pos: Tensor, rel_embeddings: Tensor) -> list[Tensor]:
        """Scores (h, b, t, t) of content to position and of position to content, those of the two that there are."""
        layer: Any = self
        slots = self._slots(query.shape[2], relative_pos)
        if isinstance(slots, slice):  # the reachable rows stand side by side: drop and project these alone
            rel_embeddings, slots = rel_embeddings[slots], slice(None)
        table = layer.pos_dropout(rel_embeddings)
        biases = []
        if "c2p" in layer.pos_att_type:
            # At row i the column of piece j is that of distance i - j, which falls as j grows.
            biases.append(_shift_rows(_meet(query, self._position_keys(table)[slots].flip(0))))
        if "p2c" in layer.pos_att_type:
            biases.append(_shift_rows(_meet(key, self._position_queries(table)[slots])).transpose(-1, -2))
        return biases

    def _slots(self, t: int, relative_pos: Tensor) -> Tensor | slice:
        """Rows of the position table for the distances 1 - t to t - 1."""
        span, own = self._span()
        if t - 1 <= own:
            return slice(span - t + 1, span + t)
        buckets = torch.cat([relative_pos[0, 0, 1:].flip(0), relative_pos[0, :, 0]])
        return (buckets + span).clamp(0, 2 * span - 1)


class FirstWindowAttention(WindowAttention, FirstAttention):
    """The attention of a DeBERTa v1 layer."""

    def _project(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, t, _ = hidden_states.shape
        together = self.in_proj(hidden_states).view(b, t, self.num_attention_heads, -1).permute(2, 0, 1, 3)
        query, key, value = (part.contiguous() for part in together.chunk(3, dim=-1))
        by_head = (self.num_attention_heads, 1, 1, -1)
        return query + self.q_bias.view(by_head), key, value + self.v_bias.view(by_head)

    def _num_parts(self) -> int:
        return 1 + len(self.pos_att_type)

    def _position_keys(self, table: Tensor) -> Tensor:
        keys: Tensor = self.pos_proj(table)
        return keys

    def _position_queries(self, table: Tensor) -> Tensor:
        queries: Tensor = self.pos_q_proj(table)
        return queries

    def _span(self) -> tuple[int, int]:
        return self.max_relative_positions, self.max_relative_positions - 1


class SecondWindowAttention(WindowAttention, SecondAttention):
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
        # Up to half of the buckets every distance has a slot of its own; beyond, several share one.
        return span, self.position_buckets // 2 if self.position_buckets > 0 else span - 1


def use_window_attention(encoder: nn.Module) -> int:
    """Give every stock relative attention of a DeBERTa in `encoder` the class that does the same in less time.

    Parameters and their names stay. Returns how many layers have it. The talking heads of v1 keep stock attention.
    """
    count = 0
    for module in encoder.modules():
        layer: Any = module
        if type(layer) is FirstAttention and layer.relative_attention and not layer.talking_head:
            layer.__class__ = FirstWindowAttention
        elif type(layer) is SecondAttention and layer.relative_attention:
            layer.__class__ = SecondWindowAttention
        count += isinstance(layer, WindowAttention)
    return count


def attention_of(encoder: Any) -> str:
    """`window`, or `stock` for a DeBERTa without it, or the kind that transformers chose for another model."""
    layers = [module for module in encoder.modules() if isinstance(module, FirstAttention | SecondAttention)]
    if not layers:
        return str(encoder.config._attn_implementation)
    return "window" if all(isinstance(layer, WindowAttention) for layer in layers) else "stock"


def _meet(content: Tensor, positions: Tensor) -> Tensor:
    """Scores (h, b, t, w) of content (h, b, t, d) with positions (w, h * d)."""
    h, b, t, d = content.shape
    by_head = positions.view(-1, h, d).permute(1, 2, 0)
    return torch.bmm(content.view(h, b * t, d), by_head).view(h, b, t, -1)


def _shift_rows(scores: Tensor) -> Tensor:
    """Return (h, b, t, t) whose row i is that of `scores` (h, b, t, 2t - 1) from column t - 1 - i on; a view.

    Each row starts one cell earlier than the one above, so in memory rows are 2t - 2 cells apart. `scores` must be
    fresh from `_meet`, alone in its memory.
    """
    h, b, t, w = scores.shape
    return scores.as_strided((h, b, t, t), (b * t * w, t * w, w - 1, 1), t - 1)
