"""Transformer-XL's relative positions: a score has a part for what a key holds, and one for how far away it is.

    score = ((query + u_h) . key + (query + v_h) . (projection_h @ R_{q - k})) / sqrt(head_dim)

R is a sinusoid of the distance, as wide as the model, and not learned; u is `content_bias` and v is `distance_bias`.
The trap: the released code writes all sines first and then all cosines, as here. The paper does not say so, and a
checkpoint in the other order still runs. Its layers may share u and v; here each layer owns them.
"""

import torch
from torch import Tensor

from attnkit import masks, normalizers
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Learned, Mechanism, Paper, kept, mixed, shared
from attnkit.mechanisms import causal
from attnkit.shapes import Context, Key, Query, Value


def transformer_xl_relative(
    query: Query,
    key: Key,
    value: Value,
    *,
    q_start: int,
    content_bias: Tensor,
    distance_bias: Tensor,
    projection: Tensor,
    dropout: float = 0.0,
    mask: Mask = masks.causal,
) -> Context:
    """The context.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        value: `*batch kv_heads kv_len d_value`.
        q_start: the position of the first query.
        content_bias: (num_heads, head_dim), u, added to a query that asks what a key holds.
        distance_bias: (num_heads, head_dim), v, added to a query that asks how far away it is.
        projection: (num_heads, head_dim, d_model), what a sinusoid of the distance goes through.
        dropout: the share of weights to drop.
        mask: where each query looks.
    """
    for_content, for_distance = (query + bias.to(query)[:, None] for bias in (content_bias, distance_bias))
    scores = for_content @ shared(key, query.shape[-3]).mT
    scores = scores + _of_distances(for_distance, key.shape[-2], q_start, projection)
    weights = normalizers.Softmax()(scores * query.shape[-1] ** -0.5, kept(mask, scores, q_start))
    return mixed(weights, value, dropout)


def _of_distances(query: Tensor, kv_len: int, q_start: int, projection: Tensor) -> Tensor:
    """What each distance adds to the score of each query, `*batch heads q_len kv_len`."""
    q_pos = torch.arange(q_start, q_start + query.shape[-2], device=query.device)
    nearest = q_start - kv_len + 1
    distances = torch.arange(nearest, q_start + query.shape[-2], device=query.device)
    vectors = sinusoid(distances, projection.shape[-1]).to(query) @ projection.to(query).mT
    by_distance = query @ vectors.mT  # each distance once; then every pair takes the one that is its own
    places = q_pos[:, None] - torch.arange(kv_len, device=query.device) - nearest
    return by_distance.gather(-1, places.expand(*query.shape[:-1], kv_len))


def sinusoid(distances: Tensor, width: int) -> Tensor:
    """Sines, then cosines, of `distances` (n,) times frequencies from 1 down to about 1 / 10000: (n, width)."""
    frequencies = 10000.0 ** -(
        torch.arange(0, width, 2, device=distances.device, dtype=torch.float64) / width
    )
    angles = distances[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)[:, :width]


def _random(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape) * shape[-1] ** -0.5


MECHANISM = Mechanism(
    name="transformer_xl_relative",
    family="score",
    summary="A score has a part for what a key holds, and one for how far away it is.",
    formula=r"s_{qk} = \frac{(q + u_h) \cdot k + (q + v_h) \cdot W_h R_{q - k}}{\sqrt{d}}",
    paper=Paper(
        "Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context",
        2019,
        "https://arxiv.org/abs/1901.02860",
        "section 3.3",
    ),
    attend=transformer_xl_relative,
    parts=(
        Learned("content_bias", ("num_heads", "head_dim"), meaning="u, for what a key holds"),
        Learned("distance_bias", ("num_heads", "head_dim"), meaning="v, for how far away it is"),
        Learned("projection", ("num_heads", "head_dim", "d_model"), _random, "what sinusoids go through"),
    ),
    laws=(
        no_future_leak,
        rows_sum_to_one,
        reduces_to(
            causal.MECHANISM, parts={"content_bias": torch.zeros_like, "projection": torch.zeros_like}
        ),
    ),
)
