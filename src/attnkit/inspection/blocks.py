"""Blocks: neighbouring queries and every key that one of them may read, so that looking costs what the mask keeps.

    weights[rows, columns] = normalize(steps(scale * query[rows] @ key[columns].T), mask[rows, columns])

A block holds whole rows, since a normalizer judges all the kept keys of a query at once. Keys that no query of the
block may read are left out, so a normalizer must not count hidden keys. One block serves all heads and samples: where
samples have masks of their own, it holds what any of them keeps.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attnkit.masks import Tiles, refine
from attnkit.request import Request

ELEMENTS = 1 << 23
_ROWS, _COLUMNS = 128, 64


@dataclass(frozen=True, eq=False)
class Block:
    """A rectangle of a request that holds all that its queries may read.

    Attributes:
        rows: which queries.
        columns: which keys, as a range or as indices (n,) in order.
        request: the request of these queries and keys alone; its values have no width.
    """

    rows: slice
    columns: slice | Tensor
    request: Request


def kept_blocks(request: Request) -> Iterator[Block]:
    """The blocks of a whole call, from the first query to the last; queries with nothing to read are in none.

    A block has at most `ELEMENTS` weights over all heads and samples, or a single query.

    Raises:
        ShapeError: the mask is for another batch.
    """
    request.check_batch(request.mask.batch)
    q_edges, kv_edges = (
        _edges(request.q_start, request.q_len, _ROWS),
        _edges(0, request.kv_len, _COLUMNS),
    )
    positions = request.q_pos, request.kv_pos
    for row, columns, width in _kept_columns(refine(request.mask, q_edges, kv_edges)):
        first, end = row * _ROWS, min((row + 1) * _ROWS, request.q_len)
        step = rows_at_a_time(request, width)
        for start in range(first, end, step):
            rows = slice(start, min(start + step, end))
            yield Block(rows, columns, _part(request, rows, columns, positions))


def rows_at_a_time(request: Request, width: int) -> int:
    """How many queries may be looked at together, with `width` keys each, over all heads and samples."""
    return max(1, ELEMENTS // max(math.prod(request.query.shape[:-2]) * width, 1))


def _edges(start: int, length: int, step: int) -> Tensor:
    return torch.tensor([*range(start, start + length, step), start + length])


def _kept_columns(tiles: Tiles) -> Iterator[tuple[int, slice | Tensor, int]]:
    """For each row of tiles that keeps something: its number, its kept keys, and how many."""
    starts, stops = tiles.kv_edges[tiles.start], tiles.kv_edges[tiles.stop]
    runs = zip(tiles.row.tolist(), starts.tolist(), stops.tolist(), strict=True)
    for row, found in itertools.groupby(runs, key=lambda run: run[0]):
        spans = [(start, stop) for _, start, stop in found]
        yield row, _joined(spans), sum(stop - start for start, stop in spans)


def _joined(spans: Iterable[tuple[int, int]]) -> slice | Tensor:
    """One range where the spans touch each other, else indices: a range needs no copy of the keys."""
    spans = list(spans)
    if all(stop == start for (_, stop), (start, _) in itertools.pairwise(spans)):
        return slice(spans[0][0], spans[-1][1])
    return torch.cat([torch.arange(start, stop) for start, stop in spans])


def _part(
    request: Request, rows: slice, columns: slice | Tensor, positions: tuple[Tensor, Tensor]
) -> Request:
    key = request.key[..., columns, :]
    q_pos, kv_pos = positions
    return replace(
        request,
        query=request.query[..., rows, :],
        key=key,
        value=key[..., :0],
        q_at=q_pos[rows],
        kv_at=kv_pos[columns],
    )
