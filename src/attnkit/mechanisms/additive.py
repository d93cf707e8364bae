"""Additive attention: a small network looks at query and key together.

    score = vector_h . tanh(query + key)

Query and key are the projections W_a s and U_a h of the paper, and `head_dim` is its number of hidden units. A bias of
either projection is the bias of the network, and there is no scale. The trap: each pair of a query and a key has a
hidden vector of its own, so that memory grows by q_len * kv_len * head_dim, and no fused kernel runs it.
"""

import torch
from torch import Tensor

from attnkit import masks, normalizers
from attnkit.laws import no_future_leak, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Learned, Mechanism, Paper, kept, mixed, shared
from attnkit.shapes import Context, Key, Query, Value


def additive(
    query: Query,
    key: Key,
    value: Value,
    *,
    q_start: int,
    vector: Tensor,
    dropout: float = 0.0,
    mask: Mask = masks.causal,
) -> Context:
    """The context.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        value: `*batch kv_heads kv_len d_value`.
        q_start: the position of the first query.
        vector: (num_heads, head_dim), what the hidden numbers are weighed by.
        dropout: the share of weights to drop.
        mask: where each query looks.
    """
    hidden = torch.tanh(query.unsqueeze(-2) + shared(key, query.shape[-3]).unsqueeze(-3))
    scores = torch.einsum("...hqkd,hd->...hqk", hidden, vector.to(hidden))
    weights = normalizers.Softmax()(scores, kept(mask, scores, q_start))
    return mixed(weights, value, dropout)


MECHANISM = Mechanism(
    name="additive",
    family="score",
    summary="A small network looks at query and key together and gives the score.",
    formula=r"s_{qk} = v_h^T \tanh(W_a s_q + U_a h_k)",
    paper=Paper(
        "Neural Machine Translation by Jointly Learning to Align and Translate",
        2014,
        "https://arxiv.org/abs/1409.0473",
        "appendix A.1.2",
    ),
    attend=additive,
    parts=(
        Learned("vector", ("num_heads", "head_dim"), torch.ones, "what the hidden numbers are weighed by"),
    ),
    laws=(no_future_leak, rows_sum_to_one),
)
