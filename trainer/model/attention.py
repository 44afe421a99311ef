"""DeBERTa's disentangled attention over the positions that a batch can reach; exact, trainable, no copy of weights.

He et al. 2021 (arXiv:2006.03654), as transformers 5.23 computes it for DeBERTa v2 and v3. Stock code projects every
relative position of the model, scores each piece against all of them, and gathers the few it needs. A batch of t
pieces needs 2t - 1 of them, and a score depends on the distance alone, so gathering is a shift of rows, a mere view.

b texts, t pieces, h heads of dimension d, w distances.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

__all__ = ["WindowAttention", "use_window_attention"]


class WindowAttention(DisentangledSelfAttention):
    """Attention of one layer, with the parameters of the stock module that it takes the place of."""

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
        b, t, _ = hidden_states.shape
        parts = 1 + len({"c2p", "p2c"}.intersection(self.pos_att_type))
        # Rounded to float32 as in the stock module, also in float64.
        scale = 1 / float(np.sqrt(np.float32(self.attention_head_size * parts)))
        query = self._heads_first(self.query_proj(hidden_states)) * scale
        key = self._heads_first(self.key_proj(hidden_states))
        value = self._heads_first(self.value_proj(hidden_states))
        scores = torch.matmul(query, key.transpose(-1, -2))
        for bias in self._biases(query, key * scale, relative_pos, rel_embeddings):
            scores = scores + bias
        hidden_pieces = ~attention_mask.bool().transpose(0, 1)
        scores = scores.masked_fill(hidden_pieces, torch.finfo(scores.dtype).min)
        probabilities = self.dropout(torch.softmax(scores, dim=-1))
        context = torch.matmul(probabilities, value).permute(1, 2, 0, 3).reshape(b, t, -1)
        return context, probabilities.transpose(0, 1) if output_attentions else None

    def _heads_first(self, projected: Tensor) -> Tensor:
        """(b, t, h * d) as (h, b, t, d): rows of all texts then meet the positions of a head in one product."""
        b, t, _ = projected.shape
        return projected.view(b, t, self.num_attention_heads, -1).permute(2, 0, 1, 3).contiguous()

    def _biases(self, query: Tensor, key: Tensor, relative_pos: Tensor, rel_embeddings: Tensor) -> list[Tensor]:
        """Scores (h, b, t, t) of content to position and of position to content, those of the two that there are."""
        t = query.shape[2]
        slots = self._slots(t, relative_pos)
        if isinstance(slots, slice):  # the reachable rows stand side by side: drop and project these alone
            rel_embeddings, slots = rel_embeddings[slots], slice(None)
        table = self.pos_dropout(rel_embeddings)
        biases = []
        if "c2p" in self.pos_att_type:
            project = self.key_proj if self.share_att_key else self.pos_key_proj
            # At row i the column of piece j is that of distance i - j, which falls as j grows.
            biases.append(_shift_rows(self._meet(query, project(table)[slots].flip(0))))
        if "p2c" in self.pos_att_type:
            project = self.query_proj if self.share_att_key else self.pos_query_proj
            biases.append(_shift_rows(self._meet(key, project(table)[slots])).transpose(-1, -2))
        return biases

    def _slots(self, t: int, relative_pos: Tensor) -> Tensor | slice:
        """Rows of the position table for the distances 1 - t to t - 1."""
        span = self.pos_ebd_size
        # Up to here every distance has a slot of its own; beyond, several share one.
        own = self.position_buckets // 2 if self.position_buckets > 0 else span - 1
        if t - 1 <= own:
            return slice(span - t + 1, span + t)
        buckets = torch.cat([relative_pos[0, 0, 1:].flip(0), relative_pos[0, :, 0]])
        return (buckets + span).clamp(0, 2 * span - 1)

    def _meet(self, content: Tensor, positions: Tensor) -> Tensor:
        """Scores (h, b, t, w) of content (h, b, t, d) with positions (w, h * d)."""
        h, b, t, d = content.shape
        by_head = positions.view(-1, h, d).permute(1, 2, 0)
        return torch.bmm(content.view(h, b * t, d), by_head).view(h, b, t, -1)


def use_window_attention(encoder: nn.Module) -> int:
    """Make every stock relative attention of DeBERTa v2 or v3 in `encoder` a WindowAttention; returns how many."""
    stock = [m for m in encoder.modules() if type(m) is DisentangledSelfAttention and m.relative_attention]
    for module in stock:
        layer: Any = module
        layer.__class__ = WindowAttention  # the same parameters under the same names
    return len(stock)


def _shift_rows(scores: Tensor) -> Tensor:
    """Return (..., t, t) whose row i is that of `scores` (..., t, 2t - 1) from column t - 1 - i on; a view.

    Each row starts one cell earlier than the one above, so in the flat array rows are 2t - 2 cells apart.
    """
    t = scores.shape[-2]
    if t == 1:
        return scores
    flat = scores.flatten(-2)[..., t - 1 : t - 1 + t * (2 * t - 2)]
    return flat.view(*flat.shape[:-1], t, 2 * t - 2)[..., :t]
