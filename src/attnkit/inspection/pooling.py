"""Pooling: a map of the weights with one cell for a tile of them, at any length.

    mean[i, j], max[i, j] = mean and max of weights[i * q_tile : (i + 1) * q_tile, j * kv_tile : (j + 1) * kv_tile]

A hidden pair counts as a weight of zero, so that the means times the areas of a row of tiles are what its queries give.
Tiles are counted from the first query and the first key; the last may be smaller, and its mean is over what is there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.backends import eager
from attnkit.inspection.blocks import kept_blocks
from attnkit.request import Request
from attnkit.shapes import Weights


@dataclass(frozen=True, eq=False)
class Pooled:
    """The weights, pooled.

    Attributes:
        mean: the mean weight of each tile, `*batch heads rows columns`.
        max: its largest weight, or 0, in the same shape.
        tile: how many queries and how many keys a tile has, `(q_tile, kv_tile)`.
    """

    mean: Weights
    max: Weights
    tile: tuple[int, int]

    def __repr__(self) -> str:
        return f"Pooled(mean and max of {tuple(self.mean.shape)}, tile={self.tile})"


def pooled_shape(request: Request, tile: tuple[int, int]) -> tuple[int, ...]:
    """`*batch heads rows columns`."""
    lengths = request.q_len, request.kv_len
    return (
        *request.query.shape[:-2],
        *(-(-length // size) for length, size in zip(lengths, tile, strict=True)),
    )


def pooled_weights(request: Request, tile: tuple[int, int]) -> Pooled:
    """The mean and the largest weight of each tile of `(q_tile, kv_tile)`."""
    q_tile, kv_tile = tile
    total = request.query.new_zeros(pooled_shape(request, tile))
    largest = torch.zeros_like(total)
    cell = torch.arange(request.kv_len, device=total.device) // kv_tile
    for block in kept_blocks(request):
        weights, columns = eager.weights(block.request), cell[block.columns]
        for row, part in _rows_of_tiles(block.rows, q_tile):
            some = weights[..., part, :]
            total[..., row, :].index_add_(-1, columns, some.sum(-2))
            top = some.amax(-2)
            largest[..., row, :].scatter_reduce_(-1, columns.expand(top.shape), top, "amax")
    rows, columns = (
        _sizes(length, size, total)
        for length, size in zip((request.q_len, request.kv_len), tile, strict=True)
    )
    return Pooled(total / (rows[:, None] * columns), largest, tile)


def _rows_of_tiles(rows: slice, q_tile: int) -> Iterator[tuple[int, slice]]:
    """The rows of tiles that `rows` touches, and which of `rows` are in each."""
    for row in range(rows.start // q_tile, -(-rows.stop // q_tile)):
        start = max(row * q_tile - rows.start, 0)
        yield row, slice(start, (row + 1) * q_tile - rows.start)


def _sizes(length: int, size: int, like: Tensor) -> Tensor:
    """How many positions each tile has."""
    starts = torch.arange(0, length, size)
    return (length - starts).clamp(max=size).to(like)
