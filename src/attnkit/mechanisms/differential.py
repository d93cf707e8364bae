"""Differential attention: what two softmaxes have in common is taken away, as two microphones cancel noise.

    context_h = (1 - lambda_init) rms_norm((softmax(Q1 K1^T / sqrt(d)) - lambda softmax(Q2 K2^T / sqrt(d))) V)
    lambda = exp(lambda_q1 . lambda_k1) - exp(lambda_q2 . lambda_k2) + lambda_init

Q1 and Q2 are the halves of a head's query, d = head_dim / 2, and its value is read whole: to compare with a
Transformer, take half as many heads. A row of weights sums to 1 - lambda, and some are negative. The norm acts on each
head by itself.

`lambda_init` is 0.8 - 0.6 exp(-0.3 (layer - 1)) in the paper, layers counted from 1; public code counts from 0. The
authors' code learns a gain after the norm: multiply it into the output projection, DiffLlama has none. DiffLlama pairs
head h with head h + num_heads / 2; here and in the authors' code the two stand side by side. With grouped heads the
authors' code gives Q1 and Q2 one and the same key; here, as in DiffLlama, a group has its own K1 and K2.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import rms_norm

from attnkit import masks
from attnkit.errors import OptionError, ShapeError
from attnkit.laws import no_future_leak
from attnkit.masks import Mask
from attnkit.mechanism import Learned, Mechanism, Paper, Sizes, turned
from attnkit.positions import Positions
from attnkit.rule import Rule
from attnkit.shapes import Context, Key, Query, Value, Weights

EPS = 1e-5

Lambdas = Float[Tensor, "4 half_of_head_dim"]


def differential(
    query: Query,
    key: Key,
    value: Value,
    *,
    q_start: int,
    lambdas: Lambdas,
    lambda_init: float = 0.8,
    mask: Mask = masks.causal,
    dropout: float = 0.0,
) -> Context:
    """The context.

    Args:
        query: `*batch heads q_len head_dim`, Q1 and Q2 of each head.
        key: `*batch kv_heads kv_len head_dim`, K1 and K2 of each head.
        value: `*batch kv_heads kv_len d_value`.
        q_start: the position of the first query.
        lambdas: (4, head_dim / 2), the rows lambda_q1, lambda_k1, lambda_q2 and lambda_k2.
        lambda_init: where lambda starts, between 0 and 1; the paper's 0.8 - 0.6 exp(-0.3 (layer - 1)) rises to 0.8.
        mask: where each query looks.
        dropout: the share of weights to drop, of each softmax by itself; the paper has none.
    """
    rule = Rule(mask=mask, dropout=dropout)
    first, second = (rule(q, k, value, q_start=q_start, training=dropout > 0) for q, k in _halves(query, key))
    return finish(first - _lambda(lambdas, lambda_init).to(value.dtype) * second, lambda_init=lambda_init)


def prepare(
    query: Query,
    key: Key,
    *,
    q_pos: Int[Tensor, " q_len"],
    kv_pos: Int[Tensor, " kv_len"],
    rotary: Positions | None = None,
) -> dict[str, Tensor]:
    """Both halves of query and key, turned by their positions.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        q_pos: the positions of the queries.
        kv_pos: the positions of the keys.
        rotary: turns each half by itself, such as `positions.Rotary()`; None turns nothing.

    Raises:
        OptionError: `rotary` is none of `attnkit.positions`.
        ShapeError: head_dim is odd.
    """
    if query.shape[-1] % 2:
        raise ShapeError(
            where="differential",
            what=f"a head's query is two halves, Q1 and Q2; got head_dim {query.shape[-1]}, which is odd",
            fix=f"head_dim={query.shape[-1] + 1}",
        )
    if rotary is None:
        return {}
    sides = {"query": (query, q_pos), "key": (key, kv_pos)}
    return {
        name: torch.cat([turned("differential", rotary, half, at) for half in side.chunk(2, -1)], -1)
        for name, (side, at) in sides.items()
    }


def weigh(
    query: Query, key: Key, *, q_start: int, lambdas: Lambdas, lambda_init: float, mask: Mask
) -> Weights:
    """The weights that mix values before the norm, `*batch heads q_len kv_len`."""
    rule = Rule(mask=mask)
    first, second = (rule.inspect(q, k, q_start=q_start).weights() for q, k in _halves(query, key))
    return first - _lambda(lambdas, lambda_init).to(first.dtype) * second


def finish(mixed: Context, *, lambda_init: float) -> Context:
    """The mixed values of each head, normalised and scaled."""
    return (1 - lambda_init) * rms_norm(mixed, mixed.shape[-1:], eps=EPS)


def _halves(query: Tensor, key: Tensor) -> zip:
    return zip(query.chunk(2, -1), key.chunk(2, -1), strict=True)


def _lambda(lambdas: Tensor, lambda_init: float) -> Tensor:
    """What the second softmax is multiplied by."""
    query_1, key_1, query_2, key_2 = lambdas.to(torch.promote_types(lambdas.dtype, torch.float32))
    return (query_1 @ key_1).exp() - (query_2 @ key_2).exp() + lambda_init


def _half(sizes: Sizes, options: Mapping[str, Any]) -> int:
    """Half of a head, in a layer whose options mean something."""
    start = options["lambda_init"]
    if not isinstance(start, int | float) or not 0 < start < 1:
        raise OptionError(
            where="differential",
            what=f"lambda_init is where lambda starts, between 0 and 1; got {start!r}",
            fix="lambda_init=0.8; in the paper 0.8 - 0.6 * math.exp(-0.3 * (layer - 1)), layers counted from 1",
        )
    if sizes.head_dim % 2:
        raise ShapeError(
            where="differential",
            what=f"a head's query is two halves, Q1 and Q2; got head_dim {sizes.head_dim}, which is odd",
            fix=f"head_dim={sizes.head_dim + 1}",
        )
    return sizes.head_dim // 2


def _near_zero(shape: tuple[int, ...]) -> Tensor:
    return 0.1 * torch.randn(shape)


MECHANISM = Mechanism(
    name="differential",
    family="heads",
    summary="What two softmaxes have in common is taken away.",
    formula=r"C_h = (1 - \lambda_0) \, \mathrm{RMSNorm}\left((\mathrm{softmax}(Q_1 K_1^T / \sqrt{d}) "
    r"- \lambda \, \mathrm{softmax}(Q_2 K_2^T / \sqrt{d})) \, V\right)",
    paper=Paper("Differential Transformer", 2024, "https://arxiv.org/abs/2410.05258", "equations 1 to 3"),
    attend=differential,
    prepare=prepare,
    weigh=weigh,
    finish=finish,
    parts=(Learned("lambdas", (4, _half), _near_zero, "lambda_q1, lambda_k1, lambda_q2 and lambda_k2"),),
    laws=(no_future_leak,),
    examples=({"lambda_init": 0.8}, {"lambda_init": 0.2}),
    own_positions=True,
)
