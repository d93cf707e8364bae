"""Talking heads: scores are mixed across heads before the softmax, and weights after it.

    weights = after.T @ softmax(before.T @ scores)

`before` and `after` are num_heads x num_heads, read as (from, to) as in the paper: score'_j = sum_i score_i before_ij.
A hidden key stays hidden: the mask acts between the two. Weights may be negative and need not sum to one. The trap:
x-transformers adds the mixed scores to the scores, so that its first matrix is `before` less the identity, and it keeps
both as (to, from).
"""

import torch
from torch import Tensor

from attnkit import masks, normalizers
from attnkit.laws import no_future_leak, reduces_to
from attnkit.masks import Mask
from attnkit.mechanism import Learned, Mechanism, Paper, kept, mixed, shared
from attnkit.mechanisms import causal
from attnkit.shapes import Context, Key, Query, Value


def talking_heads(
    query: Query,
    key: Key,
    value: Value,
    *,
    q_start: int,
    before: Tensor,
    after: Tensor,
    dropout: float = 0.0,
    mask: Mask = masks.causal,
) -> Context:
    """The context.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        value: `*batch kv_heads kv_len d_value`.
        q_start: the position of the first query.
        before: (num_heads, num_heads), what mixes the scores.
        after: (num_heads, num_heads), what mixes the weights.
        dropout: the share of weights to drop.
        mask: where each query looks.
    """
    scores = query @ shared(key, query.shape[-3]).mT * query.shape[-1] ** -0.5
    scores = torch.einsum("...iqk,ij->...jqk", scores, before)
    weights = normalizers.Softmax()(scores, kept(mask, scores, q_start))
    return mixed(torch.einsum("...iqk,ij->...jqk", weights, after), value, dropout)


def _identity(shape: tuple[int, ...]) -> Tensor:
    return torch.eye(*shape)


MECHANISM = Mechanism(
    name="talking_heads",
    family="score",
    summary="Scores are mixed across heads before the softmax, and weights after it.",
    formula=r"W = P_{\mathrm{after}}^T \, \mathrm{softmax}(P_{\mathrm{before}}^T S)",
    paper=Paper("Talking-Heads Attention", 2020, "https://arxiv.org/abs/2003.02436", "section 3"),
    attend=talking_heads,
    parts=(
        Learned("before", ("num_heads", "num_heads"), _identity, "what mixes the scores"),
        Learned("after", ("num_heads", "num_heads"), _identity, "what mixes the weights"),
    ),
    laws=(
        no_future_leak,
        reduces_to(
            causal.MECHANISM,
            parts={name: lambda part: torch.eye(part.shape[0]).to(part) for name in ("before", "after")},
        ),
    ),
)
