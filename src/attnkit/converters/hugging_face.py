"""Masks of Hugging Face models: 2-D padding where 1 is a token, and 4-D, which is bool or added to the scores.

    attention_mask     (batch, kv_len) of 0 and 1, wherever the padding is: generation pads on the left
    4-D                (batch, 1, q_len, kv_len), bool, True keeps, or floats: 0 and the dtype's smallest number

The trap: the 2-D mask says nothing of the future. A decoder adds `causal` itself, so here it is
`masks.causal & from_hugging_face(...)`. In 4-D the decoder adds nothing any more.
"""

import torch
from torch import Tensor

from attnkit.converters.multihead import kept_keys
from attnkit.converters.reading import at_queries, refuse_shape, written_out
from attnkit.converters.sdpa import added, read_pairs
from attnkit.converters.table import Table
from attnkit.errors import DtypeError
from attnkit.masks import Mask
from attnkit.shapes import type_of


def to_padding(mask: Mask, kv_len: int) -> Tensor:
    """The 2-D `attention_mask` that says the same as `mask`: `*batch kv_len` of whole numbers, 1 is a token.

    Raises:
        OptionError: the mask hides other keys from other queries.

    Example:
        >>> from attnkit import masks
        >>> to_padding(masks.lengths([1, 3]), 3).tolist()
        [[1, 0, 0], [1, 1, 1]]
    """
    return kept_keys("to_padding", mask, kv_len).long()


def to_hugging_face(
    mask: Mask,
    q_len: int,
    kv_len: int,
    *,
    dtype: torch.dtype,
    q_start: int | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """The 4-D `attention_mask` that says the same as `mask`: (batch, 1, q_len, kv_len), batch 1 where samples agree.

    It is 0 and the dtype's smallest number. Not -inf, which makes nan of a query with nothing to read: the model
    gives such a query the mean of all values, attnkit gives it zeros.

    Args:
        mask: any mask, for no batch or a batch of one axis.
        q_len: how many queries.
        kv_len: how many keys.
        dtype: the dtype of the model.
        q_start: the position of the first query; `kv_len - q_len` when not given.
        device: where the result lives.

    Raises:
        DtypeError: `dtype` is no dtype of floats.
        ShapeError: the mask has more than one batch axis.

    Example:
        >>> from attnkit import masks
        >>> to_hugging_face(masks.causal, 2, 3, dtype=torch.float16).tolist()
        [[[[0.0, 0.0, -65504.0], [0.0, 0.0, 0.0]]]]
    """
    kept = written_out("to_hugging_face", mask, q_len, kv_len, q_start, device)
    if kept.dim() > 3:
        refuse_shape(
            "to_hugging_face",
            f"models have one batch axis; {mask!r} is for a batch of {tuple(kept.shape[:-2])}",
            "flatten the batch, of the inputs too",
        )
    kept = kept[:, None] if kept.dim() == 3 else kept[None, None]
    return added("to_hugging_face", kept, dtype, torch.finfo(dtype).min if dtype.is_floating_point else 0.0)


def from_hugging_face(
    attention_mask: Tensor, *, batch: int, q_len: int, kv_len: int, q_start: int | None = None
) -> Table:
    """The mask that says the same as an `attention_mask` of two or four axes.

    Args:
        attention_mask: (batch, kv_len) of 0 and 1 or bools, or (batch, 1, q_len, kv_len) as in `from_sdpa`.
        batch: how many samples.
        q_len: how many queries.
        kv_len: how many keys, those of the cache included.
        q_start: the position of the first query; `kv_len - q_len` when not given.

    Raises:
        DtypeError: two axes hold other numbers than 0 and 1, or four axes hold no mask.
        ShapeError: it is for other sizes.

    Example:
        >>> padding = torch.tensor([[0, 1, 1], [1, 1, 1]])
        >>> from_hugging_face(padding, batch=2, q_len=1, kv_len=3).dense(1, 3).int().tolist()
        [[[0, 1, 1]], [[1, 1, 1]]]
    """
    if not isinstance(attention_mask, Tensor) or attention_mask.dim() != 2:
        return _four_axes(attention_mask, batch, q_len, kv_len, q_start)
    _check_padding(attention_mask, batch, kv_len)
    return Table(attention_mask.bool()[:, None, :])


def _four_axes(given: Tensor, batch: int, q_len: int, kv_len: int, q_start: int | None) -> Table:
    where, name = "from_hugging_face", "attention_mask"
    if isinstance(given, Tensor) and given.dim() != 4:
        refuse_shape(
            where,
            f"{name} is (batch, kv_len) or (batch, 1, q_len, kv_len); got {tuple(given.shape)}",
            f"one a sample: {name}[:, None]"
            if given.dim() == 3
            else "two axes for padding, four for anything else",
        )
    return at_queries(read_pairs(where, name, given, (batch,), q_len, kv_len), q_len, kv_len, q_start)


def _check_padding(given: Tensor, batch: int, kv_len: int) -> None:
    where, name = "from_hugging_face", "attention_mask"
    if given.is_floating_point():
        raise DtypeError(
            where=where,
            what=f"{name} {tuple(given.shape)} says which positions are tokens by 0 and 1; got {type_of(given)}",
            fix=f"{name}.long() where it holds 0 and 1; {name}[:, None, None, :] where it is added to scores",
        )
    if given.shape != (batch, kv_len):
        fix = "one row a sample, and with a cache one column for each cached key too"
        refuse_shape(
            where,
            f"{name} is (batch, kv_len), which is ({batch}, {kv_len}); got {tuple(given.shape)}",
            f"{name}.mT if it is transposed" if given.shape == (kv_len, batch) else fix,
        )
    if bool((given.long() * (given.long() - 1) != 0).any()):
        raise DtypeError(
            where=where,
            what=f"{name} is 1 at a token and 0 at padding; it holds {given[given > 1][:1].tolist() or 'less than 0'}",
            fix=f"numbers of packed documents: masks.documents({name})",
        )
