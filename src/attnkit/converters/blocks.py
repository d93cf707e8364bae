"""FlexAttention's `BlockMask`, made from what a mask knows of its tiles instead of from every pair of positions.

    kv_indices[..., row, :kv_num_blocks[row]]             the partial tiles of a row, whose pairs are asked one by one
    full_kv_indices[..., row, :full_kv_num_blocks[row]]   its full tiles, which are not asked

and the same by columns (`q_indices`), which the backward pass reads. The lists are those of `create_block_mask`, entry
by entry, where the mask's tile answers are exact. It looks at q_len x kv_len pairs; this looks at tiles alone.
"""

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from attnkit.converters.flex import to_flex
from attnkit.converters.reading import check_mask
from attnkit.masks import Mask
from attnkit.masks.tiles import EMPTY, FULL, PARTIAL


def block_mask(
    mask: Mask,
    q_len: int,
    kv_len: int,
    *,
    q_start: int | None = None,
    tile: int = 128,
    exact: bool = False,
    device: torch.device | None = None,
) -> BlockMask:
    """The `BlockMask` that says the same as `mask`: batch axis 1 where samples agree, and one head for all.

    A tile that the mask calls PARTIAL in vain costs time, never the result. `masks.where` and other masks that can
    only be asked call every tile so; `exact=True` then asks them, a row of tiles at a time.

    Args:
        mask: any mask.
        q_len: how many queries.
        kv_len: how many keys.
        q_start: the position of the first query; `kv_len - q_len` when not given.
        tile: how many queries and keys a tile has.
        exact: looks at each pair of the tiles that are not known to be empty or full.
        device: where the lists live.

    Raises:
        OptionError: a number means nothing.

    Example:
        >>> from attnkit import masks
        >>> blocks = block_mask(masks.causal & masks.window(256), 1024, 1024)
        >>> blocks.kv_num_blocks.tolist(), blocks.full_kv_num_blocks.tolist()
        ([[[1, 1, 2, 2, 2, 2, 2, 2]]], [[[0, 1, 1, 1, 1, 1, 1, 1]]])
    """
    check_mask("block_mask", mask)
    start = kv_len - q_len if q_start is None else q_start
    kinds = mask.tiles(q_len, kv_len, tile=tile, q_start=start).table()
    if exact:
        kinds = _looked_at(mask, kinds, (q_len, kv_len), start, tile)
    lists = _lists(kinds.to(device or "cpu"), q_len // tile, kv_len // tile)
    return BlockMask((q_len, kv_len), *lists, BLOCK_SIZE=(tile, tile), mask_mod=to_flex(mask, q_start=start))


def _lists(kinds: Tensor, whole_rows: int, whole_columns: int) -> tuple[Tensor, ...]:
    """Partial and full tiles by rows, then by columns. As for `create_block_mask`, none that is cut short is full."""
    kinds = kinds.reshape(-1, 1, *kinds.shape[-2:])
    full = kinds == FULL
    full[..., whole_rows:, :] = False
    full[..., whole_columns:] = False
    partial = (kinds != EMPTY) & ~full
    return (*_ordered(partial), *_ordered(full), *_ordered(partial.mT), *_ordered(full.mT))


def _looked_at(mask: Mask, kinds: Tensor, lengths: tuple[int, int], q_start: int, tile: int) -> Tensor:
    """The states of tiles, those that were PARTIAL by every pair of them: a row of tiles at a time."""
    kinds, (q_len, kv_len) = kinds.clone(), lengths
    widths = torch.full((kinds.shape[-1],), tile).clamp(max=kv_len - tile * torch.arange(kinds.shape[-1]))
    doubtful = (kinds == PARTIAL).any(-1).reshape(-1, kinds.shape[-2]).any(0)
    for row in doubtful.nonzero()[:, 0].tolist():
        q_pos = q_start + torch.arange(row * tile, min((row + 1) * tile, q_len))
        kept = mask.at(q_pos, kv_len).sum(-2)
        counts = torch.nn.functional.pad(kept, (0, -kv_len % tile)).unflatten(-1, (-1, tile)).sum(-1)
        found = (counts > 0).to(torch.int8) + (counts == widths * q_pos.numel()).to(torch.int8)
        kinds[..., row, :] = torch.where(kinds[..., row, :] == PARTIAL, found, kinds[..., row, :])
    return kinds


def _ordered(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How many tiles of each row are chosen, and their columns: those in order first, then the others."""
    columns = chosen.int().argsort(dim=-1, descending=True, stable=True)
    return chosen.sum(-1, dtype=torch.int32), columns.to(torch.int32).contiguous()
