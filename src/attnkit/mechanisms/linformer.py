"""Linformer: the keys and values of a whole text are mixed into `rank` of each, and the query reads those.

    context = softmax(query @ (E @ key).T / sqrt(head_dim)) @ (F @ value)

E and F are learned, rank x context_length, and shared by all heads. Each mixes all positions, so it cannot be causal, a
later token moves every context, and there is no cache. A shorter text takes the first columns; a longer one is refused.

Weights of a key can be negative and do not sum to one: they are softmax(...) @ F. The paper knows no padding: here keys
that a mask hides are left out of E @ key and F @ value, and a row of E that is left with nothing is not read.
"""

import torch
from torch import Tensor

from attnkit import masks, normalizers
from attnkit.errors import ShapeError
from attnkit.laws import reduces_to
from attnkit.masks import Mask
from attnkit.mechanism import Learned, Mechanism, Paper, mixed, shared
from attnkit.mechanism.chosen import check_counts
from attnkit.mechanism.columns import for_tokens, keys_kept
from attnkit.mechanisms import grouped_query
from attnkit.shapes import Context, Key, Query, Value


def linformer(
    query: Query,
    key: Key,
    value: Value,
    *,
    key_map: Tensor,
    value_map: Tensor,
    rank: int = 256,
    context_length: int = 512,
    q_start: int,
    dropout: float = 0.0,
    mask: Mask = masks.full,
) -> Context:
    """The context.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        value: `*batch kv_heads kv_len d_value`.
        key_map: (rank, context_length), the paper's E.
        value_map: (rank, context_length), the paper's F.
        rank: how many keys are left, the paper's k.
        context_length: how many tokens a text has at most.
        q_start: the position of the first query.
        dropout: the share of weights to drop.
        mask: which keys are padding.

    Raises:
        OptionError: the mask hides keys from some queries alone, or an option counts nothing.
        ShapeError: there are more than `context_length` keys.
    """
    check_counts("linformer", rank=rank, context_length=context_length)
    _check_length(key, context_length)
    kept = keys_kept("linformer", mask, query, key, q_start, fix=_FIX)
    key, value = (side.masked_fill(~for_tokens(kept), 0.0) for side in (key, value))
    key_map, value_map = key_map[:, : key.shape[-2]], value_map[:, : key.shape[-2]]
    rows = ((key_map != 0) & kept.unsqueeze(-2)).any(-1)
    scores = query @ shared(key_map @ key, query.shape[-3]).mT * query.shape[-1] ** -0.5
    weights = normalizers.Softmax()(scores, rows.unsqueeze(-2).unsqueeze(-2).expand_as(scores))
    return mixed(weights, value_map @ value, dropout)


def _check_length(key: Key, context_length: int) -> None:
    if key.shape[-2] > context_length:
        raise ShapeError(
            where="linformer",
            what=f"key {tuple(key.shape)} has {key.shape[-2]} tokens, more than context_length={context_length}",
            fix=f"context_length={key.shape[-2]}, since each position has a column of its own",
        )


_FIX = (
    'masks.lengths([5, 3]) for padding; find("performer") is causal in linear time, '
    'find("sliding_window") where only neighbours count'
)


def _drawn(shape: tuple[int, ...]) -> Tensor:
    """Normal numbers of variance 1 / rank, which keep lengths on average (theorem 2)."""
    return torch.randn(shape) * shape[0] ** -0.5


def _identity(part: Tensor) -> Tensor:
    return torch.eye(*part.shape).to(part)


MECHANISM = Mechanism(
    name="linformer",
    family="approximation",
    summary="The keys and values of a whole text are mixed into a few, and the query reads those.",
    formula=r"\mathrm{softmax}\left(\frac{Q (E K)^T}{\sqrt{d}}\right) F V",
    paper=Paper(
        "Linformer: Self-Attention with Linear Complexity",
        2020,
        "https://arxiv.org/abs/2006.04768",
        "equation 7",
    ),
    attend=linformer,
    parts=(
        Learned("key_map", ("rank", "context_length"), _drawn, "what mixes the keys"),
        Learned("value_map", ("rank", "context_length"), _drawn, "what mixes the values"),
    ),
    laws=(
        reduces_to(
            grouped_query.MECHANISM,
            theirs={"mask": masks.full},
            parts={"key_map": _identity, "value_map": _identity},
            rank=7,
            context_length=7,
        ),
    ),
    examples=({"rank": 3, "context_length": 7}, {"rank": 2, "context_length": 9}),
    settles=False,
)
