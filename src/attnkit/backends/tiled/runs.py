"""Runs: which stretches of keys each row of tiles reads, trimmed to what the mask keeps.

A row of tiles is some queries that follow one another. Its tiles that are not empty are found by `masks.refine`;
neighbours become one run, and keys at both ends that no query of the row reads are cut off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise

import torch
from torch import Tensor

from attnkit.masks import Area, Mask, refine

_NARROWEST, _WIDEST = 64, 512
_EVEN = 16  # keys: the kernel is some 3 % slower where vectors of it do not fill a row of scores


@dataclass(frozen=True, eq=False)
class Runs:
    """Stretches of keys, sorted by the row that reads them, then by key. Positions, not indices.

    Attributes:
        q_from: (runs,) the first query of the row.
        q_to: (runs,) one past its last.
        kv_from: (runs,) the first key of the stretch.
        kv_to: (runs,) one past its last.
        full: (runs,) whether every query of the row reads every key of the stretch.
    """

    q_from: Tensor
    q_to: Tensor
    kv_from: Tensor
    kv_to: Tensor
    full: Tensor

    @property
    def rows(self) -> Tensor:
        """How many queries each run is for."""
        return self.q_to - self.q_from

    @property
    def width(self) -> Tensor:
        """How many keys are in each run."""
        return self.kv_to - self.kv_from

    @property
    def rank(self) -> Tensor:
        """How many runs of the same row come before each."""
        place = torch.arange(self.q_from.numel())
        new = torch.ones_like(self.full)
        new[1:] = self.q_from[1:] != self.q_from[:-1]
        return place - torch.where(new, place, 0).cummax(0).values if place.numel() else place


@dataclass(frozen=True)
class Block:
    """Some queries and all the keys that they read. Indices.

    Attributes:
        first: the first query.
        last: one past the last.
        spans: (first key, one past the last, whether all the queries read them all), by rising key.
    """

    first: int
    last: int
    spans: tuple[tuple[int, int, bool], ...]

    @property
    def width(self) -> int:
        """How many keys."""
        return sum(last - first for first, last, _ in self.spans)

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """The spans, those that touch made one."""
        found: list[tuple[int, int]] = []
        for first, last, _ in self.spans:
            if found and found[-1][1] == first:
                found[-1] = found[-1][0], last
            else:
                found.append((first, last))
        return found


def blocks_of(mask: Mask, q_start: int, lengths: tuple[int, int], size: int) -> list[Block]:
    """Blocks of `size` queries, in order; queries that read nothing are in none. `lengths` are q_len and kv_len."""
    runs = runs_of(mask, (q_start, q_start + lengths[0]), lengths[1], size, joined=False)
    columns = (runs.q_from - q_start, runs.q_to - q_start, runs.kv_from, runs.kv_to, runs.full)
    listed = zip(*(column.tolist() for column in columns), strict=True)
    return [
        Block(*rows, tuple((run[2], run[3], run[4]) for run in spans))
        for rows, spans in groupby(listed, key=lambda run: (run[0], run[1]))
    ]


def runs_of(mask: Mask, q_range: tuple[int, int], kv_len: int, size: int, *, joined: bool) -> Runs:
    """The runs of rows of `size` queries, which start anew where the pattern of the mask does.

    Args:
        mask: the same for every sample.
        q_range: the position of the first query, and one past the last.
        kv_len: how many keys.
        size: queries in a row of tiles.
        joined: makes one run of full and partial neighbours; otherwise a run is all full, or all partial.
    """
    try:
        return _known_runs(mask, q_range, kv_len, size, joined)
    except TypeError:  # a mask of the reader's own that has no hash
        return _found_runs(mask, q_range, kv_len, size, joined)


@lru_cache(maxsize=512)  # a batch of texts has a mask for each length, and each layer asks for all of them
def _known_runs(mask: Mask, q_range: tuple[int, int], kv_len: int, size: int, joined: bool) -> Runs:
    return _found_runs(mask, q_range, kv_len, size, joined)


def _found_runs(mask: Mask, q_range: tuple[int, int], kv_len: int, size: int, joined: bool) -> Runs:
    cuts = mask.cuts(max(kv_len, q_range[1], 1)).tolist()
    q_edges = _edges(q_range, size, q_range[0], cuts)
    kv_edges = _edges(keys_read(mask, q_range, kv_len), min(max(size, _NARROWEST), _WIDEST), q_range[0], cuts)
    tiles = refine(mask, q_edges, kv_edges)
    q_from, q_to = q_edges[tiles.row], q_edges[tiles.row + 1]
    found = Runs(q_from, q_to, kv_edges[tiles.start], kv_edges[tiles.stop], tiles.full)
    return _neighbours(_trimmed(mask, _neighbours(found, joined)), joined)


def keys_read(mask: Mask, q_range: tuple[int, int], kv_len: int) -> tuple[int, int]:
    """The first key that any query reads, and one past the last: one new token may read a window of a long cache."""
    area = mask.narrow(Area(*(torch.tensor([edge]) for edge in (*q_range, 0, kv_len))))
    first, last = int(area.kv_from), int(area.kv_to)
    return (max(first, 0), min(last, kv_len)) if first < last else (0, 0)


def _edges(span: tuple[int, int], step: int, anchor: int, cuts: Sequence[int]) -> Tensor:
    """Where tiles of `step` begin, and the end of the last; they start anew at each cut, and one begins at `anchor`."""
    start, stop = span
    found: list[int] = []
    for left, right in pairwise([start, *(cut for cut in cuts if start < cut < stop), stop]):
        begin = left + (anchor - left) % step if left < anchor < right else left
        found += [left, *range(begin, right, step)] if begin > left else range(left, right, step)
    return torch.tensor([*found, stop])


def _neighbours(runs: Runs, joined: bool) -> Runs:
    """Runs that touch in one row as one; unless `joined`, only those that are both full."""
    new = torch.ones_like(runs.full)
    new[1:] = (runs.q_from[1:] != runs.q_from[:-1]) | (runs.kv_from[1:] != runs.kv_to[:-1])
    if not joined:
        new[1:] |= ~runs.full[1:] | ~runs.full[:-1]
    first = new.nonzero()[:, 0]
    last = torch.cat([first[1:], first.new_tensor([new.numel()])[: first.numel()]]) - 1
    partial = torch.nn.functional.pad((~runs.full).cumsum(0), (1, 0))
    full = partial[last + 1] == partial[first]
    return Runs(runs.q_from[first], runs.q_to[first], runs.kv_from[first], runs.kv_to[last], full)


def _trimmed(mask: Mask, runs: Runs) -> Runs:
    """What is not full, without the keys at both ends that nobody reads, but for what makes the width even."""
    area = mask.narrow(Area(runs.q_from, runs.q_to, runs.kv_from, runs.kv_to))
    kv_from = torch.where(runs.full, runs.kv_from, area.kv_from.maximum(runs.kv_from))
    kv_to = torch.where(runs.full, runs.kv_to, area.kv_to.minimum(runs.kv_to))
    full = runs.full | mask.over(Area(runs.q_from, runs.q_to, kv_from, kv_to)).every
    even = kv_to - (kv_to - kv_from + _EVEN - 1) // _EVEN * _EVEN
    kv_from = torch.where(full | (kv_from >= kv_to), kv_from, even.maximum(runs.kv_from))
    alive = (kv_from < kv_to).nonzero()[:, 0]
    parts = runs.q_from, runs.q_to, kv_from, kv_to, full
    return Runs(*(part[alive] for part in parts))
