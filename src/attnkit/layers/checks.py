"""What a layer refuses before it computes, in words."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attnkit.caches import Cache, Recurrent, Sliding
from attnkit.converters import Table
from attnkit.errors import DtypeError, OptionError, ShapeError
from attnkit.masks import Mask
from attnkit.masks.mask import instead_of
from attnkit.mechanism import Projected
from attnkit.positions import Positions
from attnkit.shapes import check_dropout, check_heads, check_tokens, type_of

if TYPE_CHECKING:
    from attnkit.layers.attention import Attention

WHERE = "Attention"


def check_sizes(
    d_model: int,
    num_heads: int,
    *,
    num_kv_heads: int | None,
    head_dim: int | None,
    memory_dim: int | None,
) -> None:
    """Refuse widths and counts that no layer has.

    Raises:
        OptionError: a number means nothing, or heads of key and value cannot be shared evenly.
        ShapeError: heads cannot share `d_model` evenly and no `head_dim` is given.
    """
    numbers = {"d_model": d_model, "num_heads": num_heads}
    others = {"head_dim": head_dim, "num_kv_heads": num_kv_heads, "memory_dim": memory_dim}
    for name, number in (numbers | {name: n for name, n in others.items() if n is not None}).items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise OptionError(where=WHERE, what=f"{name} is 1, 2, 3, ...; got {number!r}", fix=f"{name}=8")
    if head_dim is None:
        check_heads(WHERE, d_model, num_heads, width="d_model")
    if num_kv_heads is not None and num_heads % num_kv_heads:
        fits = ", ".join(str(count) for count in range(1, num_heads + 1) if num_heads % count == 0)
        raise OptionError(
            where=WHERE,
            what=f"{num_heads} query heads cannot share num_kv_heads={num_kv_heads} evenly",
            fix=f"num_kv_heads is one of {fits}",
        )


def check_mixing(layer: "Attention") -> None:
    """Refuse dropout and positions where the mechanism of `layer` has no place for them.

    Raises:
        OptionError: it has none.
    """
    check_dropout(WHERE, layer.dropout, fix="dropout=0.1 drops one in ten")
    name = layer.mechanism.name
    if layer.dropout and not layer.bound.drops:
        raise OptionError(
            where=WHERE, what=f"{name} has no weights that dropout could act on", fix="dropout=0.0"
        )
    if layer.positions is None:
        return
    if not isinstance(layer.positions, Positions):
        raise OptionError(
            where=WHERE,
            what=f"positions is one of attnkit.positions; got {layer.positions!r}",
            fix="positions=positions.Rotary(); None for positions that are in x already, or nowhere",
        )
    if layer.mechanism.own_positions or layer.bound.turns:
        raise OptionError(
            where=WHERE,
            what=f"{name} has no place for positions: it turns or widens query and key itself",
            fix="leave positions out; attnkit show tells the mechanism's own options",
        )


def check_parts(layer: "Attention", num_kv_heads: int | None) -> None:
    """Refuse sizes that options make of the mechanism's parts, and a number of kv heads that it has no use for.

    Raises:
        OptionError: a part would have less than one head or number, or `num_kv_heads` would change nothing.
    """
    name, options = layer.mechanism.name, layer.bound.options
    for part in layer.mechanism.parts:
        extents = (part.heads, part.width) if isinstance(part, Projected) else part.shape
        for size in (layer.sizes.of(extent, options) for extent in extents):
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise OptionError(
                    where=WHERE,
                    what=f"with these options {part.name} of {name} would have a size of {size!r}",
                    fix=f"sizes are 1, 2, 3, ...; attnkit show {name} tells which option sets it",
                )
    used = any(part.heads == "num_kv_heads" for part in layer.projections)
    if num_kv_heads is not None and not used:
        key = next(part for part in layer.projections if part.name == "key")
        heads = layer.sizes.of(key.heads, options)
        if num_kv_heads != heads:
            raise OptionError(
                where=WHERE,
                what=f"keys of {name} have {heads} {'head' if heads == 1 else 'heads'} by nature; "
                f"got num_kv_heads={num_kv_heads}",
                fix='leave num_kv_heads out, or mechanism="grouped_query"',
            )


def check_call(layer: "Attention", x: Tensor, memory: Tensor | None, cache: Cache | None) -> None:
    """Refuse inputs that do not fit the layer.

    Raises:
        ShapeError: axes do not fit together.
        DtypeError: `x` or `memory` holds no floats.
        OptionError: the mechanism cannot read a memory, or go on from this cache.
    """
    check_tokens(WHERE, x, layer.d_model)
    if memory is not None:
        check_memory(layer, x, memory)
    elif layer.memory_dim != layer.d_model:
        raise ShapeError(
            where=WHERE,
            what=f"this layer reads a memory of memory_dim={layer.memory_dim}, which x {tuple(x.shape)} is not",
            fix="layer(x, memory)",
        )
    if cache is not None:
        check_cache(layer, x, memory, cache)


def check_cache(layer: "Attention", x: Tensor, memory: Tensor | None, cache: object) -> None:
    """Refuse a cache that is none, or of another kind, batch or memory.

    Raises:
        ShapeError: the cache is for another batch or another memory, or `x` has not one batch axis.
        OptionError: it is of another kind, or the mechanism reads the future.
    """
    if not isinstance(cache, Cache):
        raise OptionError(
            where=WHERE,
            what=f"cache is what new_cache made; got {type_of(cache)}",
            fix="cache=layer.new_cache()",
        )
    if isinstance(cache, Recurrent) != (layer.mechanism.recurrence is not None):
        raise OptionError(
            where=WHERE,
            what=f"{layer.mechanism.name} cannot go on from a {type(cache).__name__} cache",
            fix="cache=layer.new_cache(), of this layer",
        )
    if x.dim() != 3:
        raise ShapeError(
            where=WHERE,
            what=f"a cache is for one batch axis, (batch, len, {layer.d_model}); x is {tuple(x.shape)}",
            fix="x[None] for one sample, x.flatten(0, -3) for more axes",
        )
    if cache.batch not in (None, x.shape[0]):
        raise ShapeError(
            where=WHERE,
            what=f"x {tuple(x.shape)} has a batch of {x.shape[0]}; the cache is for {cache.batch}",
            fix="a cache for each batch; cache.reorder(samples) takes other samples from it",
        )
    if memory is None:
        check_decodes(layer)
    elif cache.length not in (0, memory.shape[-2]):
        raise ShapeError(
            where=WHERE,
            what=f"the cache holds another memory, of {cache.length} tokens; memory is {tuple(memory.shape)}",
            fix="a cache for each memory: cache=layer.new_cache(), or cache.reset()",
        )


def check_memory(layer: "Attention", x: Tensor, memory: Tensor) -> None:
    """Refuse a memory that the layer cannot read, or whose batch is another.

    Raises:
        ShapeError: its batch or its width is another.
        OptionError: the mechanism hides what comes later, and in a memory nothing does.
    """
    name = layer.mechanism.name
    if memory.shape[-1:] != (layer.memory_dim,) and isinstance(memory, Tensor) and memory.dim() >= 2:
        raise ShapeError(
            where=WHERE,
            what=f"the last axis of memory {tuple(memory.shape)} is {memory.shape[-1]}; "
            f"this layer was made for memory_dim={layer.memory_dim}",
            fix=f"make the layer with memory_dim={memory.shape[-1]}",
        )
    check_tokens(WHERE, memory, layer.memory_dim)
    if memory.shape[:-2] != x.shape[:-2]:
        raise ShapeError(
            where=WHERE,
            what=f"memory {tuple(memory.shape)} is for a batch of {tuple(memory.shape[:-2])}; x is {tuple(x.shape)}",
            fix="one memory for each sample; memory.expand(batch, -1, -1) gives all the same",
        )
    if layer.mechanism.recurrence is not None:
        raise OptionError(
            where=WHERE,
            what=f"{name} is a recurrence over one sequence and reads no memory",
            fix='mechanism="full" for cross-attention',
        )
    if layer.is_causal:
        fix = 'mechanism="full", or a mechanism with mask=masks.full'
        if "mask" in layer.bound.options:
            fix = f'Attention(..., mechanism="{name}", mask=masks.full)'
        raise OptionError(
            where=WHERE,
            what=f"{name} hides what comes later here, and in a memory nothing comes later",
            fix=fix,
        )


def check_decodes(layer: "Attention") -> None:
    """Refuse a cache where a token's context would still change with later tokens.

    Raises:
        OptionError: it would.
    """
    if layer.mechanism.settles and layer.is_causal:
        return
    fix = "call it on all tokens at once, without a cache"
    if "mask" in layer.bound.options and layer.mechanism.settles:
        fix = f'Attention(..., mechanism="{layer.mechanism.name}", mask=masks.causal)'
    raise OptionError(
        where=WHERE,
        what=f"{layer.mechanism.name} reads the future here: each token changes what was computed before it",
        fix=fix,
    )


def check_mask(mask: object, batch: torch.Size, kv_len: int, cache: Cache | None) -> None:
    """Refuse a mask of a call; bools say for each key whether there is a token.

    Raises:
        DtypeError: it is a tensor of something else than bools.
        ShapeError: it is for other sizes.
        OptionError: it is neither a mask nor a tensor, or knows positions that a sliding cache does not.
    """
    if mask is None:
        return
    if isinstance(mask, Mask):
        if isinstance(cache, Sliding) and not mask.relative:
            raise OptionError(
                where=WHERE,
                what=f"a sliding cache counts what it holds from 0 again, and {mask!r} is not known to be a mask of "
                "distances alone",
                fix="bools (batch, kv_len) where it hides the same keys from every query, or kind='growing'",
            )
        return
    if not isinstance(mask, Tensor):
        raise OptionError(
            where=WHERE, what=f"mask is one of attnkit.masks; got {type_of(mask)}", fix=instead_of(mask)
        )
    if mask.dtype != torch.bool:
        raise DtypeError(
            where=WHERE,
            what=f"mask holds {type_of(mask)}; a mask is bool, True where there is a token",
            fix="mask.bool() of 0 and 1; ~mask of nn.MultiheadAttention's key_padding_mask, which is True to ignore",
        )
    wanted = (*batch, kv_len)
    if tuple(mask.shape) != wanted:
        raise ShapeError(
            where=WHERE,
            what=f"mask {tuple(mask.shape)} is no {wanted}, (batch, kv_len), tokens in a cache included",
            fix="one bool for each key; what differs from query to query is a mask, masks.causal or masks.where(...)",
        )


def as_mask(mask: Mask | Tensor | None, first: int) -> Mask | None:
    """The mask of a call for the keys from position `first` on; bools become a mask that is the same for each query."""
    return Table(mask[..., None, first:]) if isinstance(mask, Tensor) else mask
