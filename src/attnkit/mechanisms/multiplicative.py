"""Multiplicative attention: a learned matrix stands between query and key.

    score = query @ matrix_h @ key.T

There is no scale: the matrix learns it. Where queries have a projection of their own, as in `attnkit.Attention`, the
matrix can be multiplied into it, so a trained layer becomes an `unscaled` one with other weights. Luong's `general` has
no other projection.
"""

import torch
from torch import Tensor

from attnkit import masks
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Learned, Mechanism, Paper
from attnkit.mechanisms import unscaled
from attnkit.rule import Rule
from attnkit.shapes import Query


def multiplicative(*, mask: Mask = masks.causal) -> Rule:
    """The rule, for queries that have met the matrix.

    Args:
        mask: where each query looks.
    """
    return Rule(mask=mask, scale=1.0)


def prepare(query: Query, *, matrix: Tensor) -> dict[str, Tensor]:
    """The queries, times the matrix of their head.

    Args:
        query: `*batch heads q_len head_dim`.
        matrix: (num_heads, head_dim, head_dim), rows for the query's numbers and columns for the key's.
    """
    return {"query": query @ matrix}


def _identity(shape: tuple[int, ...]) -> Tensor:
    return torch.eye(shape[-1]).repeat(shape[0], 1, 1)


MECHANISM = Mechanism(
    name="multiplicative",
    family="score",
    summary="A learned matrix says which numbers of a query meet which of a key.",
    formula=r"s_{qk} = q^T M_h \, k",
    paper=Paper(
        "Effective Approaches to Attention-based Neural Machine Translation",
        2015,
        "https://arxiv.org/abs/1508.04025",
        "section 3.1, the score named general",
    ),
    rule=multiplicative,
    prepare=prepare,
    parts=(
        Learned(
            "matrix", ("num_heads", "head_dim", "head_dim"), _identity, "what stands between query and key"
        ),
    ),
    laws=(
        no_future_leak,
        rows_sum_to_one,
        reduces_to(unscaled.MECHANISM, parts={"matrix": lambda matrix: _identity(matrix.shape).to(matrix)}),
    ),
)
