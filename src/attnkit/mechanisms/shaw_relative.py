"""Shaw's relative positions: a learned vector for each distance is added to the key, and one to the value.

    score   = query . (key + key_table[d]) / sqrt(head_dim),    d = clip(k - q, -max_distance, max_distance)
    context = sum of weight * (value + value_table[d])

Row 0 of a table is for keys `max_distance` or more before the query, the middle row for the query's own position. All
heads share the tables. The trap: the values' table is left out in much public code, which computes something else; a
table of zeros does the same here.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout as dropped

from attnkit import masks, normalizers
from attnkit.errors import OptionError, ShapeError
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Learned, Mechanism, Paper, Projected, Sizes, kept, mixed, shared
from attnkit.mechanisms import causal
from attnkit.shapes import Context, Key, Query, Value, Weights


def shaw_relative(
    query: Query,
    key: Key,
    value: Value,
    *,
    q_start: int,
    key_table: Tensor,
    value_table: Tensor,
    max_distance: int = 16,
    dropout: float = 0.0,
    mask: Mask = masks.causal,
) -> Context:
    """The context.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        value: `*batch kv_heads kv_len head_dim`.
        q_start: the position of the first query.
        key_table: (2 * max_distance + 1, head_dim), what is added to a key.
        value_table: (2 * max_distance + 1, head_dim), what is added to a value.
        max_distance: from this many tokens on, all keys of a direction share a vector.
        dropout: the share of weights to drop.
        mask: where each query looks.

    Raises:
        OptionError: `max_distance` is no whole number from 0 upwards.
        ShapeError: a table has another number of rows.
    """
    count = _checked("value_table", value_table, max_distance)
    weights = weigh(query, key, q_start=q_start, key_table=key_table, max_distance=max_distance, mask=mask)
    weights = dropped(weights, dropout) if dropout else weights
    rows = _rows(weights, q_start, max_distance)
    by_distance = weights.new_zeros(*weights.shape[:-1], count).scatter_add(-1, rows, weights)
    return mixed(weights, value) + by_distance @ value_table.to(value)


def weigh(
    query: Query,
    key: Key,
    *,
    q_start: int,
    key_table: Tensor,
    max_distance: int = 16,
    mask: Mask = masks.causal,
) -> Weights:
    """The weights; arguments and errors as in `shaw_relative`."""
    _checked("key_table", key_table, max_distance)
    scores = query @ shared(key, query.shape[-3]).mT
    by_distance = query @ key_table.to(query).mT
    scores = scores + by_distance.gather(-1, _rows(scores, q_start, max_distance))
    return normalizers.Softmax()(scores * query.shape[-1] ** -0.5, kept(mask, scores, q_start))


def _checked(name: str, table: Tensor, max_distance: int) -> int:
    """How many rows the table called `name` has, which is one for each distance."""
    count = _count(max_distance)
    if len(table) != count:
        raise ShapeError(
            where="shaw_relative",
            what=f"{name} {tuple(table.shape)} has {len(table)} rows; max_distance={max_distance} needs {count}",
            fix=f"a row for each distance from {-max_distance} to {max_distance}",
        )
    return count


def _count(max_distance: object) -> int:
    if not isinstance(max_distance, int) or isinstance(max_distance, bool) or max_distance < 0:
        raise OptionError(
            where="shaw_relative",
            what=f"max_distance is a whole number of tokens from 0 upwards; got {max_distance!r}",
            fix="max_distance=16, as in the paper",
        )
    return 2 * max_distance + 1


def _rows(scores: Tensor, q_start: int, max_distance: int) -> Tensor:
    """The row of a table for each query and key, in the shape of the scores."""
    q_pos = torch.arange(q_start, q_start + scores.shape[-2], device=scores.device)
    kv_pos = torch.arange(scores.shape[-1], device=scores.device)
    distance = (kv_pos - q_pos[:, None]).clamp(-max_distance, max_distance)
    return (distance + max_distance).expand(scores.shape)


def _table_rows(sizes: Sizes, options: Mapping[str, Any]) -> int:
    return _count(options["max_distance"])


def _head_dim(sizes: Sizes, options: Mapping[str, Any]) -> int:
    return sizes.head_dim


MECHANISM = Mechanism(
    name="shaw_relative",
    family="score",
    summary="A learned vector for each distance is added to the key, and another one to the value.",
    formula=r"s_{qk} = \frac{q \cdot (k + a^K_d)}{\sqrt{d_z}}, \quad z_q = \sum_k w_{qk} (v_k + a^V_d)",
    paper=Paper(
        "Self-Attention with Relative Position Representations",
        2018,
        "https://arxiv.org/abs/1803.02155",
        "equations 3 and 4",
    ),
    attend=shaw_relative,
    weigh=weigh,
    parts=(
        # as wide as the vectors that are added to it
        Projected("value", of="key", heads="num_kv_heads", width=_head_dim),
        Learned("key_table", (_table_rows, "head_dim"), meaning="what is added to a key, by distance"),
        Learned("value_table", (_table_rows, "head_dim"), meaning="what is added to a value, by distance"),
    ),
    laws=(
        no_future_leak,
        rows_sum_to_one,
        reduces_to(causal.MECHANISM, parts={"key_table": torch.zeros_like, "value_table": torch.zeros_like}),
    ),
    examples=({"max_distance": 2}, {"max_distance": 16}),
)
