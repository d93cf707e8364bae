"""A grid of cells over the queries and keys of a mask, and how much of each cell is kept.

What a grid calls empty or full is so: it comes from tile answers, or from every pair where there are few. The share of
a cell in between is counted in ever smaller tiles, and where those are neither, in a few pairs of each.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attnkit.masks.area import spans
from attnkit.masks.tiles import Tiles, edges, refine

if TYPE_CHECKING:
    from attnkit.masks.pattern import Pattern

_WRITTEN_OUT = 1 << 20
_LOOKED_INTO = 1 << 16
_PER_SIDE = 4


@dataclass(frozen=True, eq=False)
class Grid:
    """The cells of a mask for one sample.

    Attributes:
        q_edges: where rows of cells begin, and the end of the last (rows + 1,).
        kv_edges: the same for columns (columns + 1,).
        share: how much of each cell is kept, from 0 to 1 (rows, columns).
        empty: whether a cell surely has no kept pair.
        full: whether a cell surely has no hidden pair.
        kept: the share of all pairs that is kept, at least and at most; equal where every pair was looked at.
    """

    q_edges: Tensor
    kv_edges: Tensor
    share: Tensor
    empty: Tensor
    full: Tensor
    kept: tuple[float, float]

    @property
    def sizes(self) -> Tensor:
        """How many pairs each cell has (rows, columns)."""
        return torch.diff(self.q_edges)[:, None] * torch.diff(self.kv_edges)

    @property
    def one_pair_each(self) -> bool:
        """Whether each pair has a cell of its own."""
        return bool((self.sizes == 1).all())

    @property
    def cell_size(self) -> str:
        """What a cell is, in words."""
        height, width = (int(ends[1] - ends[0]) for ends in (self.q_edges, self.kv_edges))
        queries, keys = "query" if height == 1 else "queries", "key" if width == 1 else "keys"
        return f"a cell is {height:,} {queries} by {width:,} {keys}"


def measured(mask: "Pattern", q_edges: Tensor, kv_edges: Tensor) -> Grid:
    """The grid of a mask that is the same for every sample; edges rise by powers of two, but for the last."""
    sizes = torch.diff(q_edges)[:, None] * torch.diff(kv_edges)
    if int(sizes.sum()) <= _WRITTEN_OUT:
        least = most = about = _written_out(mask, q_edges, kv_edges)
    else:
        tiles = _small_tiles(mask, q_edges, kv_edges)
        least = _pairs(tiles, tiles.full, q_edges, kv_edges)
        most = least + _pairs(tiles, ~tiles.full, q_edges, kv_edges)
        about = least + _seen(mask, tiles, q_edges, kv_edges)
    total = max(int(sizes.sum()), 1)
    kept = (float(least.sum()) / total, float(most.sum()) / total)
    return Grid(q_edges, kv_edges, about / sizes, most == 0, least == sizes, kept)


def cells(length: int, at_most: int) -> Tensor:
    """Edges of at most `at_most` cells, each of the same power of two."""
    return edges(length, 1 << (max(-(-length // at_most), 1) - 1).bit_length())


def _written_out(mask: "Pattern", q_edges: Tensor, kv_edges: Tensor) -> Tensor:
    keep = mask.keep(
        torch.arange(int(q_edges[0]), int(q_edges[-1]))[:, None], torch.arange(int(kv_edges[-1]))
    )
    keep = keep.expand(int(q_edges[-1] - q_edges[0]), int(kv_edges[-1])).double()
    rows = _sums(keep, q_edges - q_edges[0])
    return _sums(rows.T, kv_edges).T


def _sums(numbers: Tensor, ends: Tensor) -> Tensor:
    """Sums of rows from each edge to the next."""
    return torch.nn.functional.pad(numbers.cumsum(0), (0, 0, 1, 0))[ends].diff(dim=0)


def _small_tiles(mask: "Pattern", q_edges: Tensor, kv_edges: Tensor) -> Tiles:
    """Tiles of an eighth of a cell, or smaller while few of them are partial."""
    sides = [max(int(ends[1] - ends[0]) // 8, 1) for ends in (q_edges, kv_edges)]
    while True:
        lengths = [int(ends[-1] - ends[0]) for ends in (q_edges, kv_edges)]
        fine_q, fine_kv = (edges(length, side) for length, side in zip(lengths, sides, strict=True))
        tiles = refine(mask, q_edges[0] + fine_q, fine_kv)
        if max(sides) == 1 or 4 * tiles.num_partial > _LOOKED_INTO:
            return tiles
        sides = [max(side // 2, 1) for side in sides]


def _pairs(tiles: Tiles, chosen: Tensor, q_edges: Tensor, kv_edges: Tensor) -> Tensor:
    """How many pairs of each cell are in the chosen runs of tiles (rows, columns)."""
    row, start, stop = (runs[chosen] for runs in (tiles.row, tiles.start, tiles.stop))
    begin, end = tiles.kv_edges[start], tiles.kv_edges[stop]
    height = torch.diff(tiles.q_edges)[row]
    cell_row = torch.bucketize(tiles.q_edges[row], q_edges, right=True) - 1
    pairs = torch.zeros(q_edges.numel() - 1, kv_edges.numel() - 1, dtype=torch.float64)
    for part in torch.arange(row.numel()).split(1 << 14):
        reach = torch.minimum(torch.maximum(kv_edges, begin[part, None]), end[part, None]).diff(dim=-1)
        pairs.index_add_(0, cell_row[part], (reach * height[part, None]).double())
    return pairs


def _seen(mask: "Pattern", tiles: Tiles, q_edges: Tensor, kv_edges: Tensor) -> Tensor:
    """How many pairs of each cell partial tiles keep, judged by a few pairs of each tile."""
    partial = ~tiles.full
    owner, column = spans(tiles.start[partial], tiles.stop[partial] - 1)
    row = tiles.row[partial][owner]
    (q_pos, height), (kv_pos, width) = _some_of(tiles.q_edges, row), _some_of(tiles.kv_edges, column)
    keep = mask.keep(q_pos[:, :, None], kv_pos[:, None, :]).expand(row.numel(), _PER_SIDE, _PER_SIDE)
    pairs = keep.double().mean((-2, -1)) * height * width
    cell_row = torch.bucketize(tiles.q_edges[row], q_edges, right=True) - 1
    cell_column = torch.bucketize(tiles.kv_edges[column], kv_edges, right=True) - 1
    seen = torch.zeros(q_edges.numel() - 1, kv_edges.numel() - 1, dtype=torch.float64)
    return seen.index_put((cell_row, cell_column), pairs, accumulate=True)


def _some_of(ends: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """A few positions in each tile (n, few), drawn so that no period of a mask can hide, and how long it is."""
    generator = torch.Generator().manual_seed(0)
    length = torch.diff(ends)[place]
    drawn = torch.rand(place.numel(), _PER_SIDE, generator=generator, dtype=torch.float64)
    return ends[place][:, None] + (drawn * length[:, None]).long(), length
