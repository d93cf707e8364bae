"""Masks of `torch.nn.MultiheadAttention`: True ignores, the other way round than in every other function of PyTorch.

    attn_mask          (q_len, kv_len), or (batch * num_heads, q_len, kv_len), sample by sample
    key_padding_mask   (batch, kv_len)

The trap besides: a query with nothing to read makes nan there, with `need_weights=True` always and without it on the
fast path of evaluation. Here it gets zeros. Let such a query read one key, or drop its row.
"""

import torch
from torch import Tensor

from attnkit.converters.reading import (
    at_queries,
    check_direction,
    check_mask,
    check_pairs,
    check_unclear,
    heads_agree,
    kept_pairs,
    refuse_shape,
    written_out,
)
from attnkit.converters.table import Table
from attnkit.errors import OptionError, ShapeError
from attnkit.masks import Area, Mask


def to_multihead(
    mask: Mask,
    q_len: int,
    kv_len: int,
    *,
    num_heads: int,
    q_start: int | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """The `attn_mask` that says the same as `mask`: bool, True ignores.

    Args:
        mask: any mask, for no batch or a batch of one axis.
        q_len: how many queries.
        kv_len: how many keys.
        num_heads: how many heads the layer has; each sample's rows are repeated for them.
        q_start: the position of the first query; `kv_len - q_len` when not given.
        device: where the result lives.

    Returns:
        (q_len, kv_len), or (batch * num_heads, q_len, kv_len) where samples differ.

    Raises:
        ShapeError: the mask has more than one batch axis.

    Example:
        >>> from attnkit import masks
        >>> to_multihead(masks.causal, 2, 3, num_heads=4).int().tolist()
        [[0, 0, 1], [0, 0, 0]]
    """
    ignored = ~written_out("to_multihead", mask, q_len, kv_len, q_start, device)
    if ignored.dim() > 3:
        raise ShapeError(
            where="to_multihead",
            what=f"nn.MultiheadAttention has one batch axis; {mask!r} is for a batch of {tuple(ignored.shape[:-2])}",
            fix="flatten the batch, of the inputs too",
        )
    return ignored.repeat_interleave(num_heads, 0) if ignored.dim() == 3 else ignored


def to_key_padding(mask: Mask, kv_len: int) -> Tensor:
    """The `key_padding_mask` that says the same as `mask`: `*batch kv_len`, bool, True ignores.

    Raises:
        OptionError: the mask hides other keys from other queries.

    Example:
        >>> from attnkit import masks
        >>> to_key_padding(masks.lengths([1, 3]), 3).int().tolist()
        [[0, 1, 1], [0, 0, 0]]
    """
    return ~kept_keys("to_key_padding", mask, kv_len)


def from_multihead(
    attn_mask: Tensor | None = None,
    *,
    key_padding_mask: Tensor | None = None,
    batch: int,
    num_heads: int,
    q_len: int,
    kv_len: int,
    q_start: int | None = None,
) -> Mask:
    """The mask that says the same as both masks together; floats are a mask where they are 0 and -inf alone.

    Args:
        attn_mask: (q_len, kv_len) or (batch * num_heads, q_len, kv_len), bool, True ignores, or floats.
        key_padding_mask: (batch, kv_len), bool, True ignores, or floats.
        batch: how many samples; 1 where the layer is given none.
        num_heads: how many heads the layer has.
        q_len: how many queries.
        kv_len: how many keys.
        q_start: the position of the first query; `kv_len - q_len` when not given.

    Raises:
        OptionError: neither mask is given.
        DtypeError: one holds whole numbers, the floats 0 and 1, or a bias.
        ShapeError: one is for other sizes or transposed, heads differ, or rows may be samples.

    Example:
        >>> future = torch.ones(3, 3, dtype=torch.bool).triu(1)
        >>> from_multihead(future, batch=2, num_heads=4, q_len=3, kv_len=3).dense(3, 3).int().tolist()
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    given: list[Mask] = []
    if attn_mask is not None:
        pairs = _pairs(attn_mask, batch, num_heads, q_len, kv_len)
        given.append(at_queries(pairs, q_len, kv_len, q_start))
    if key_padding_mask is not None:
        given.append(_keys(key_padding_mask, batch, kv_len))
    return _together(given)


def kept_keys(where: str, mask: Mask, kv_len: int) -> Tensor:
    """Which keys a mask keeps from every query alike: `*batch kv_len`.

    Raises:
        OptionError: it hides other keys from other queries.
    """
    check_mask(where, mask)
    column = torch.arange(kv_len)
    none = torch.zeros_like(column)
    some, every = mask.over(Area(none, none + kv_len, column, column + 1))
    if not bool((some & ~every).any()):
        return every
    kept = mask.dense(kv_len, kv_len)
    if bool((kept != kept[..., :1, :]).any()):
        raise OptionError(
            where=where,
            what=f"{mask!r} hides other keys from other queries; padding is the same for all of a sample",
            fix="convert the padding alone, such as masks.lengths([5, 3]), and give the rest as the other mask",
        )
    return kept[..., 0, :]


def _together(given: list[Mask]) -> Mask:
    if not given:
        raise OptionError(
            where="from_multihead",
            what="neither attn_mask nor key_padding_mask is given",
            fix="masks.full hides nothing",
        )
    return given[0] & given[1] if len(given) == 2 else given[0]


def _pairs(attn_mask: Tensor, batch: int, num_heads: int, q_len: int, kv_len: int) -> Tensor:
    where, name = "from_multihead", "attn_mask"
    kept = kept_pairs(where, name, attn_mask, true_keeps=False)
    if kept.dim() == 2:
        each = f"{name}.expand({batch * num_heads}, -1, -1) if they are queries"
        check_unclear(
            where, name, (batch,), q_len, fix=f"key_padding_mask={name} if rows are samples, {each}"
        )
    elif kept.dim() != 3 or kept.shape[0] != batch * num_heads:
        refuse_shape(
            where,
            f"{name} is (q_len, kv_len) or (batch * num_heads, q_len, kv_len), {batch * num_heads} first; "
            f"got {tuple(kept.shape)}",
            f"one a sample: {name}.repeat_interleave({num_heads}, dim=0)",
        )
    check_pairs(where, name, kept, q_len, kv_len)
    kept = kept.unflatten(0, (batch, num_heads)) if kept.dim() == 3 else kept[None]
    kept = heads_agree(where, name, kept, (batch,))
    check_direction(where, name, kept)
    return kept


def _keys(key_padding_mask: Tensor, batch: int, kv_len: int) -> Table:
    where, name = "from_multihead", "key_padding_mask"
    kept = kept_pairs(where, name, key_padding_mask, true_keeps=False)
    if kept.shape != (batch, kv_len):
        refuse_shape(
            where,
            f"{name} is (batch, kv_len), which is ({batch}, {kv_len}); got {tuple(kept.shape)}",
            f"{name}.mT if it is transposed"
            if kept.shape == (kv_len, batch)
            else "one row a sample, one column a key",
        )
    return Table(kept[:, None, :])
