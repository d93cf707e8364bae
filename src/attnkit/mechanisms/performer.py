r"""Performer: the exponential of a score as a product of positive random features, so that the past is a sum.

    exp(q . k) = E[phi_i(q) phi_i(k)],   phi_i(x) = exp(w_i . x - |x|^2 / 2),   w_i normal
    context_q = (phi(q) . sum_k phi(k) v_k^T) / (phi(q) . sum_k phi(k))

Query and key are both multiplied by head_dim ** -0.25 first, which is softmax's scale. The error falls with the number
of features as 1 / sqrt(features), and grows with exp(|q + k|^2 / 2): sharp attention is out of reach.

The vectors w are orthogonal in groups of head_dim and drawn by `seed` once and for all; the paper draws them anew while
it trains. Public code adds a small number to each feature, and divides the features of keys by their largest, over the
future too. Here nothing is added, and queries alone are divided, each by its own largest. Numbers are float32 at least;
a row whose features are all 0 in that has a context of 0. Keys in a cache are summed up again in each call.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from attnkit import masks
from attnkit.laws import no_future_leak, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper, shared
from attnkit.mechanism.chosen import check_counts
from attnkit.mechanism.columns import for_tokens, past_kept, refuse_dropout
from attnkit.shapes import Context, Key, Query, Value

_TOKENS = 128  # queries of a chunk; it changes speed alone


def performer(
    query: Query,
    key: Key,
    value: Value,
    *,
    features: int = 256,
    seed: int = 0,
    q_start: int,
    dropout: float = 0.0,
    mask: Mask = masks.causal,
) -> Context:
    """The context.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        value: `*batch kv_heads kv_len d_value`.
        features: how many random features stand for a token.
        seed: what they are drawn by.
        q_start: the position of the first query.
        dropout: refused above 0, since no weights are written out.
        mask: masks.causal or masks.full, with or without padding.

    Raises:
        OptionError: `features` is no whole number from 1 upwards, or the mask is another.
    """
    check_counts("performer", features=features)
    refuse_dropout("performer", dropout)
    kept, causal = past_kept("performer", mask, query, key, q_start, fix=_FIX)
    asking, asked = (_exponents(side, features, seed) for side in (query, key))
    asking = (asking - asking.detach().amax(-1, keepdim=True)).exp()
    asked = asked.exp().masked_fill(~for_tokens(kept), 0.0)
    beside = pad(value.masked_fill(~for_tokens(kept), 0.0).to(asked), (0, 1), value=1.0)
    asked, beside = (shared(side, query.shape[-3]) for side in (asked, beside))
    sums = _past(asking, asked, beside, q_start) if causal else asking @ (asked.mT @ beside)
    below = sums[..., -1:]
    return (sums[..., :-1] / below.masked_fill(below == 0, 1.0)).to(query.dtype)


def _exponents(tokens: Tensor, features: int, seed: int) -> Tensor:
    """The logarithms of the features, `*batch heads len features`."""
    head_dim = tokens.shape[-1]
    tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32)) * head_dim**-0.25
    drawn = drawn_vectors(features, head_dim, seed).to(tokens)
    return tokens @ drawn.T - tokens.square().sum(-1, keepdim=True) / 2


def _past(asking: Tensor, asked: Tensor, value: Tensor, q_start: int) -> Tensor:
    """The sum over keys up to each query, with nothing larger than a chunk of them written out."""
    kv_len, parts, read = asked.shape[-2], [], 0
    memory = asked[..., :0, :].mT @ value[..., :0, :]
    for chunk in asking.split(_TOKENS, -2):
        first, last = (min(max(place, 0), kv_len) for place in (q_start, q_start + chunk.shape[-2]))
        memory = memory + asked[..., read:first, :].mT @ value[..., read:first, :]
        weights = chunk @ asked[..., first:last, :].mT
        distance = torch.arange(q_start, q_start + chunk.shape[-2], device=chunk.device)[:, None]
        future = torch.arange(first, last, device=chunk.device) > distance
        parts.append(chunk @ memory + weights.masked_fill(future, 0.0) @ value[..., first:last, :])
        read, q_start = first, q_start + chunk.shape[-2]
    return torch.cat(parts, -2)


@lru_cache(maxsize=16)
def drawn_vectors(features: int, head_dim: int, seed: int) -> Tensor:
    """The vectors w, (features, head_dim): each normal, and those of a group of head_dim orthogonal."""
    generator = torch.Generator().manual_seed(seed)
    groups = -(-features // head_dim)
    drawn = torch.randn(groups, head_dim, head_dim, generator=generator, dtype=torch.float64)
    turns, upper = torch.linalg.qr(drawn)
    turns = turns * upper.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(
        -2
    )  # else not every direction is as likely
    lengths = torch.randn(features, head_dim, generator=generator, dtype=torch.float64).norm(dim=-1)
    return turns.mT.flatten(0, 1)[:features] * lengths[:, None]


_FIX = (
    'masks.causal, masks.full, or one of them & masks.lengths([5, 3]); find("sliding_window") knows windows'
)

MECHANISM = Mechanism(
    name="performer",
    family="approximation",
    summary="The exponential of a score as a product of positive random features, so that the past is a sum.",
    formula=r"e^{q \cdot k} = \mathbb{E}_{w \sim \mathcal{N}(0, I)}"
    r"\left[e^{w \cdot q - |q|^2 / 2} \, e^{w \cdot k - |k|^2 / 2}\right]",
    paper=Paper("Rethinking Attention with Performers", 2020, "https://arxiv.org/abs/2009.14794", "lemma 1"),
    attend=performer,
    laws=(no_future_leak, rows_sum_to_one),
    examples=({"features": 16}, {"features": 5, "seed": 1}),
)
