"""Tiles: which rectangles of a mask are empty, full or partial, found by looking at what is partial alone.

A square of 2 x 2 tiles is judged before the tiles in it, a square of 4 x 4 before that, and only what is neither
empty nor full is looked at closer. The cost follows what the mask keeps; no table of rows x columns is made.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attnkit.masks.area import Area

if TYPE_CHECKING:
    from attnkit.masks.mask import Mask


@dataclass(frozen=True, eq=False)
class Tiles:
    """The tiles that a mask keeps, as runs of neighbours: tiles `start` up to `stop` of a `row` are all full or all partial.

    Attributes:
        q_edges: positions at which rows of tiles begin, and the end of the last (rows + 1,).
        kv_edges: the same for columns (columns + 1,).
        row: (runs,) the row of each run; runs are sorted by row, then by start.
        start: (runs,) its first column.
        stop: (runs,) the column after its last.
        full: (runs,) whether every pair in it is kept; else some are.
    """

    q_edges: Tensor
    kv_edges: Tensor
    row: Tensor
    start: Tensor
    stop: Tensor
    full: Tensor

    @property
    def num_rows(self) -> int:
        """How many rows of tiles."""
        return self.q_edges.numel() - 1

    @property
    def num_columns(self) -> int:
        """How many columns of tiles."""
        return self.kv_edges.numel() - 1


def refine(mask: "Mask", q_edges: Tensor, kv_edges: Tensor) -> Tiles:
    """The tiles between the edges that `mask` keeps; where samples differ, that any of them keeps."""
    rows, columns = q_edges.numel() - 1, kv_edges.numel() - 1
    size = 1 << max(rows - 1, columns - 1, 0).bit_length()
    row = column = torch.zeros(int(rows > 0 and columns > 0), dtype=torch.int64, device=q_edges.device)
    found: list[Tensor] = []
    while True:
        some, every = _judge(mask, q_edges, kv_edges, row, column, size)
        done = every if size > 1 else some
        found.append(_runs(row[done], column[done], every[done], size, rows, columns))
        if size == 1:
            return _merged(q_edges, kv_edges, torch.cat(found, dim=1))
        row, column = _quarters(row[some & ~every], column[some & ~every], size // 2, rows, columns)
        size //= 2


def _judge(
    mask: "Mask", q_edges: Tensor, kv_edges: Tensor, row: Tensor, column: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    last_row, last_column = q_edges.numel() - 1, kv_edges.numel() - 1
    area = Area(
        q_edges[row],
        q_edges[(row + size).clamp(max=last_row)],
        kv_edges[column],
        kv_edges[(column + size).clamp(max=last_column)],
    )
    some, every = mask.over(area)
    shape = (1, *torch.broadcast_shapes(some.shape, every.shape)[:-1], row.numel())  # 1: at least one sample
    some, every = some.expand(shape), every.expand(shape)
    return some.flatten(0, -2).any(0), every.flatten(0, -2).all(0)


def _quarters(row: Tensor, column: Tensor, half: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    down = torch.tensor([0, 0, half, half], device=row.device)
    right = torch.tensor([0, half, 0, half], device=row.device)
    row, column = (row[:, None] + down).flatten(), (column[:, None] + right).flatten()
    inside = (row < rows) & (column < columns)
    return row[inside], column[inside]


def _runs(row: Tensor, column: Tensor, full: Tensor, size: int, rows: int, columns: int) -> Tensor:
    """A square of `size` tiles as one run in each of its rows: (4, runs) of row, start, stop, full."""
    each_row = (row[:, None] + torch.arange(size, device=row.device)).flatten()
    start, full = column.repeat_interleave(size), full.long().repeat_interleave(size)
    runs = torch.stack([each_row, start, (start + size).clamp(max=columns), full])
    return runs[:, each_row < rows]


def _merged(q_edges: Tensor, kv_edges: Tensor, runs: Tensor) -> Tiles:
    """Runs sorted, and touching ones of one kind made one."""
    runs = runs[:, torch.argsort(runs[0] * kv_edges.numel() + runs[1])]
    row, start, stop, full = runs
    new = torch.ones_like(row, dtype=torch.bool)
    new[1:] = (row[1:] != row[:-1]) | (start[1:] != stop[:-1]) | (full[1:] != full[:-1])
    last = torch.ones_like(new)
    last[:-1] = new[1:]
    return Tiles(q_edges, kv_edges, row[new], start[new], stop[last], full[new].bool())
