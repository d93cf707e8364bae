"""Masks of PyTorch's `scaled_dot_product_attention`: bool, True keeps; or floats that are added to the scores.

The trap: what is added may be anything, so a mask of the floats 0 and 1 hides nothing, and a (batch, length) mask is
taken for (q_len, kv_len) wherever it happens to broadcast. Both train without a word. A query with nothing to read gets
zeros from a mask of bools or -inf; where the smallest float was added instead, it gets the mean of all values.
"""

import torch
from torch import Tensor

from attnkit.converters.reading import (
    at_queries,
    batch_axes,
    check_direction,
    check_pairs,
    check_unclear,
    heads_agree,
    kept_pairs,
    refuse_shape,
    written_out,
)
from attnkit.converters.table import Table
from attnkit.errors import DtypeError
from attnkit.masks import Mask


def to_sdpa(
    mask: Mask,
    q_len: int,
    kv_len: int,
    *,
    dtype: torch.dtype | None = None,
    q_start: int | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """The `attn_mask` that says the same as `mask`.

    Args:
        mask: any mask.
        q_len: how many queries.
        kv_len: how many keys.
        dtype: a float dtype for a mask of 0 and -inf, which is added; a bool mask when not given.
        q_start: the position of the first query; `kv_len - q_len` when not given.
        device: where the result lives.

    Returns:
        (q_len, kv_len), or `*batch 1 q_len kv_len` where samples differ.

    Raises:
        DtypeError: `dtype` is no dtype of floats.

    Example:
        >>> from attnkit import masks
        >>> to_sdpa(masks.causal, 2, 3, dtype=torch.float32).tolist()
        [[0.0, 0.0, -inf], [0.0, 0.0, 0.0]]
    """
    kept = written_out("to_sdpa", mask, q_len, kv_len, q_start, device)
    kept = kept.unsqueeze(-3) if kept.dim() > 2 else kept
    return kept if dtype is None else added("to_sdpa", kept, dtype, -torch.inf)


def from_sdpa(
    attn_mask: Tensor,
    *,
    batch: int | tuple[int, ...],
    q_len: int,
    kv_len: int,
    q_start: int | None = None,
) -> Table:
    """The mask that says the same as an `attn_mask`.

    Floats are a mask where they are 0 and -inf alone; -1e30 and less hide too, and the smallest float16.

    Args:
        attn_mask: bool, True keeps, or floats; axes that broadcast to `*batch heads q_len kv_len`.
        batch: the batch of the query, (2, 5) where it has two axes.
        q_len: how many queries.
        kv_len: how many keys.
        q_start: the position of the first query; `kv_len - q_len` when not given.

    Raises:
        DtypeError: `attn_mask` holds whole numbers, the floats 0 and 1, or a bias.
        ShapeError: it is for other sizes or transposed, its heads differ, or its rows may be samples.

    Example:
        >>> kept = torch.tensor([[True, True, False], [True, True, True]])
        >>> from_sdpa(kept, batch=4, q_len=2, kv_len=3).dense(2, 3).int().tolist()
        [[1, 1, 0], [1, 1, 1]]
    """
    kept = read_pairs("from_sdpa", "attn_mask", attn_mask, batch_axes(batch), q_len, kv_len)
    return at_queries(kept, q_len, kv_len, q_start)


def read_pairs(
    where: str, name: str, given: Tensor, batch: tuple[int, ...], q_len: int, kv_len: int
) -> Tensor:
    """Which pairs a tensor keeps that broadcasts to `*batch heads q_len kv_len`; errors as in `from_sdpa`."""
    kept = kept_pairs(where, name, given, true_keeps=True)
    if kept.dim() < 2:
        refuse_shape(
            where, f"{name} has axes (q_len, kv_len); got {tuple(kept.shape)}", f"{name}[None, :] for keys"
        )
    if kept.dim() == 2:
        samples = f"{name}[:, None, None, :] if rows are samples"
        check_unclear(where, name, batch, q_len, fix=f"{samples}, {name}[None] if they are queries")
        if batch == (kept.shape[0],) and kept.shape[0] not in (1, q_len):
            refuse_shape(where, f"{name} {tuple(kept.shape)} has a row a sample, not a query", samples)
    check_pairs(where, name, kept, q_len, kv_len)
    kept = heads_agree(where, name, kept if kept.dim() > 2 else kept[None], batch)
    check_direction(where, name, kept)
    return kept


def added(where: str, kept: Tensor, dtype: torch.dtype, hidden: float) -> Tensor:
    """What is added to scores: 0 where `kept`, else `hidden`.

    Raises:
        DtypeError: `dtype` is no dtype of floats.
    """
    if not dtype.is_floating_point:
        raise DtypeError(
            where=where,
            what=f"dtype is that of the scores, which are floats; got {dtype}",
            fix="dtype=query.dtype",
        )
    return torch.zeros(kept.shape, dtype=dtype, device=kept.device).masked_fill(~kept, hidden)
