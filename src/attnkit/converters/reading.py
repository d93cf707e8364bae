"""What the readers of foreign masks share: which numbers mean "keep", and which tensors are refused.

bool                        as the library reads it
float, of 0 and -inf alone  0 keeps, -inf hides; so does a number that no score can come back from
anything else               refused: it would be added to the scores
"""

from typing import NoReturn

import torch
from torch import Tensor

from attnkit.converters.table import Table
from attnkit.errors import DtypeError, OptionError, ShapeError
from attnkit.masks import Mask
from attnkit.shapes import type_of

LOST = -1e30  # float16 has no such number; there its smallest one hides


def kept_pairs(where: str, name: str, given: object, *, true_keeps: bool) -> Tensor:
    """A bool tensor, True keeps, from a bool one or from one of floats that are added to scores.

    Raises:
        DtypeError: `given` is neither, or its floats are no mask.
    """
    if isinstance(given, Tensor) and given.dtype == torch.bool:
        return given.clone() if true_keeps else ~given
    if isinstance(given, Tensor) and given.is_floating_point():
        return _added(where, name, given.detach())
    if given is None or isinstance(given, Mask):
        raise DtypeError(
            where=where,
            what=f"{name} is a tensor; got {type_of(given)}",
            fix="masks.full hides nothing" if given is None else "it is a mask already: Rule(mask=...)",
        )
    as_bool = f"{name}.bool()" if isinstance(given, Tensor) else f"torch.as_tensor({name}).bool()"
    flipped = "" if true_keeps else "~"
    raise DtypeError(
        where=where,
        what=f"{name} is a bool tensor or one of floats that are added to scores; got {type_of(given)}",
        fix=f"{flipped}{as_bool} where 1 keeps; {'~' if true_keeps else ''}{as_bool} where 1 hides",
    )


def _added(where: str, name: str, given: Tensor) -> Tensor:
    hidden = given <= max(torch.finfo(given.dtype).min, LOST)
    odd = given[~hidden & (given != 0)]
    if not odd.numel():
        return ~hidden
    if bool((odd == 1).all()):
        raise DtypeError(
            where=where,
            what=f"{name} holds the floats 0 and 1; floats are added to scores, so it would hide nothing",
            fix=f"{name} > 0 where 1 keeps; {name} == 0 where 1 hides",
        )
    raise DtypeError(
        where=where,
        what=f"{name} adds {odd[0].item():g} to a score; floats are a mask where they are 0 and -inf alone",
        fix=f"a bias: Rule(scores=(scores.Bias({name}),)); numbers like -1e9 that were meant to hide: {name} > -1e3",
    )


def check_mask(where: str, mask: object) -> None:
    """Refuse what is no mask of attnkit.

    Raises:
        OptionError: it is none.
    """
    if not isinstance(mask, Mask):
        raise OptionError(
            where=where,
            what=f"mask is one of attnkit.masks; got {type(mask).__name__}",
            fix="masks.causal, masks.lengths([5, 3]), ...; a tensor becomes one by from_sdpa, from_multihead or "
            "from_hugging_face, a mask_mod by from_flex",
        )


def written_out(
    where: str, mask: Mask, q_len: int, kv_len: int, q_start: int | None, device: torch.device | None
) -> Tensor:
    """`mask` as a tensor, `*batch q_len kv_len`, once it is known to be one."""
    check_mask(where, mask)
    return mask.dense(q_len, kv_len, q_start=q_start, device=device)


def check_pairs(where: str, name: str, kept: Tensor, q_len: int, kv_len: int) -> None:
    """Refuse a tensor whose last two axes are not q_len and kv_len, or 1 for all.

    Raises:
        ShapeError: they are others, perhaps the two exchanged.
    """
    rows, columns = kept.shape[-2:]
    if rows in (1, q_len) and columns in (1, kv_len):
        return
    turned = rows in (1, kv_len) and columns in (1, q_len)
    refuse_shape(
        where,
        f"{name} {tuple(kept.shape)} does not end in (q_len, kv_len), which is ({q_len}, {kv_len})",
        f"it is transposed: {name}.mT"
        if turned
        else "rows are queries and columns keys; 1 stands for all of them",
    )


def check_direction(where: str, name: str, kept: Tensor) -> None:
    """Refuse a square table that is causal the wrong way round: no query reads the past, and each all of its future.

    Columns that nobody reads are padding. A table with one column left to read could mean anything.

    Raises:
        ShapeError: it is.
    """
    length = kept.shape[-1]
    if kept.shape[-2] != length or length < 2:
        return
    padding = kept.any(-2, keepdim=True)
    told = padding.sum(-1)[..., 0] > 1
    future = torch.ones(length, length, dtype=torch.bool, device=kept.device).triu()
    for turned, own in ((future, "itself and "), (future.triu(1), "")):
        if told.any() and bool((kept == (turned & padding)).all(-1).all(-1)[told].all()):
            refuse_shape(
                where,
                f"by {name} each query would read {own}all that comes after it, and nothing before",
                f"{name}.mT if it is transposed, ~{name} if True hides in it; to read the future alone, "
                f"masks.where(lambda q, k: k {'>=' if own else '>'} q)",
            )


def check_unclear(where: str, name: str, batch: tuple[int, ...], q_len: int, *, fix: str) -> None:
    """Refuse a tensor of two axes whose rows may be queries as well as samples.

    Raises:
        ShapeError: there are as many queries as samples.
    """
    if len(batch) == 1 and batch[0] == q_len > 1:
        refuse_shape(
            where,
            f"the {q_len} rows of {name} may be queries or samples, as there are {q_len} of both; "
            "a (batch, length) mask would be read as (q_len, kv_len) in silence",
            fix,
        )


def heads_agree(where: str, name: str, kept: Tensor, batch: tuple[int, ...]) -> Tensor:
    """`*batch heads q_len kv_len` without its heads, and without a batch that is 1 in all its axes.

    Raises:
        ShapeError: it is for another batch, or heads differ.
    """
    samples = tuple(kept.shape[:-3])
    paired = zip(samples[::-1], batch[::-1], strict=False)
    if len(samples) > len(batch) or any(own not in (1, size) for own, size in paired):
        refuse_shape(
            where,
            f"{name} is for a batch of {samples}; the batch is {batch}",
            "axes are read from the right as (*batch, heads, q_len, kv_len); 1 is for all",
        )
    first = kept[..., :1, :, :]
    if bool((kept != first).any()):
        hint = f"; where its first axis is samples, {name}[:, None]" if kept.dim() == 3 else ""
        refuse_shape(
            where,
            f"{name} hides other keys in other heads; a mask here is the same for all heads",
            f"one rule for each group of heads that share a mask{hint}",
        )
    one = first.squeeze(-3)
    return (
        one.expand(*batch, *one.shape[-2:])
        if any(size > 1 for size in samples)
        else one.reshape(one.shape[-2:])
    )


def at_queries(kept: Tensor, q_len: int, kv_len: int, q_start: int | None) -> Table:
    """The mask whose first row is for the first query."""
    return Table(kept, kv_len - q_len if q_start is None else q_start)


def batch_axes(batch: int | tuple[int, ...]) -> tuple[int, ...]:
    """One number is one axis."""
    return batch if isinstance(batch, tuple) else (batch,)


def refuse_shape(where: str, what: str, fix: str) -> NoReturn:
    """Raise a ShapeError."""
    raise ShapeError(where=where, what=what, fix=fix)
