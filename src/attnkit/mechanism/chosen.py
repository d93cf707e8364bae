"""Keys that each query has chosen by what they hold, as a mask: any backend then reads those, and no others.

    keep(q, k) = chosen[q, k // block_tokens]

The choice has no gradient; the scores of what is chosen have theirs. A chosen block may hold keys that another mask
hides: combine the two by `&`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from attnkit.errors import OptionError
from attnkit.masks import Area, Mask
from attnkit.mechanism.written import shared
from attnkit.rule import Rule
from attnkit.shapes import Context, Keep, Key, Query, Value

_ROWS = 256  # queries whose row of the mask is written out at a time
_CELL = 16  # queries, and keys at least, that answer together for a tile


@dataclass(frozen=True, eq=False)
class Chosen(Mask):
    """The blocks of keys that each query has chosen.

    Attributes:
        table: bool `*batch q_len blocks`.
        block_tokens: how many keys a block has.
        q_start: the position of the first query; a query that is not in the table reads nothing.
    """

    table: Tensor
    block_tokens: int
    q_start: int

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # a plan that were stored would keep the table alive

    @property
    def batch(self) -> tuple[int, ...]:
        """The axes of `table` before the queries."""
        return tuple(self.table.shape[:-2])

    def sample(self, index: tuple[int, ...]) -> Mask:
        """What one sample has chosen: each time the same object, so that its cells are counted once."""
        if not self.batch:
            return self
        if index not in self._samples:
            self._samples[index] = Chosen(self.table[index], self.block_tokens, self.q_start)
        return self._samples[index]

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where the query has chosen the block of the key."""
        rows, blocks = self.table.shape[-2:]
        row, block = q_pos - self.q_start, kv_pos // self.block_tokens
        inside = (row >= 0) & (row < rows) & (block >= 0) & (block < blocks)
        table = self.table.to(row.device)
        return table[..., row.clamp(0, max(rows - 1, 0)), block.clamp(0, max(blocks - 1, 0))] & inside

    def some(self, area: Area) -> Tensor:
        """Whether a cell that the area touches holds anything chosen."""
        return super().some(area) if self.batch else area.alive & (self._counted(area, self._sums[0])[0] > 0)

    def every(self, area: Area) -> Tensor:
        """Whether all of each cell that the area touches is chosen."""
        if self.batch:
            return super().every(area)
        rows, blocks = self.table.shape[-2:]
        inside = (area.q_from >= self.q_start) & (area.q_to <= self.q_start + rows)
        inside = inside & (area.kv_from >= 0) & (area.kv_to <= blocks * self.block_tokens)
        count, cells = self._counted(area, self._sums[1])
        return ~area.alive | (inside & (count == cells))

    @cached_property
    def _samples(self) -> dict[tuple[int, ...], "Chosen"]:
        return {}

    @property
    def _cell_blocks(self) -> int:
        return max(_CELL // self.block_tokens, 1)

    @cached_property
    def _sums(self) -> tuple[Tensor, Tensor]:
        """How many cells before each row and column of cells hold anything chosen, and how many nothing else."""
        rows, blocks = self.table.shape[-2:]
        lack = (0, -blocks % self._cell_blocks, 0, -rows % _CELL)
        found = []
        for filling in (False, True):
            cells = pad(self.table, lack, value=filling).unflatten(-1, (-1, self._cell_blocks))
            cells = cells.unflatten(-3, (-1, _CELL))
            cells = cells.all(-1).all(-2) if filling else cells.any(-1).any(-2)
            found.append(pad(cells.long().cumsum(-1).cumsum(-2), (1, 0, 1, 0)))
        return found[0], found[1]

    def _counted(self, area: Area, sums: Tensor) -> tuple[Tensor, Tensor]:
        """How many of the cells that an area touches are counted in `sums`, and how many there are."""
        rows, columns = (size - 1 for size in sums.shape)
        width = self._cell_blocks * self.block_tokens
        sums = sums.to(area.q_from.device)
        top = ((area.q_from - self.q_start) // _CELL).clamp(0, rows)
        bottom = (-((self.q_start - area.q_to) // _CELL)).clamp(0, rows)
        left, right = (area.kv_from // width).clamp(0, columns), (-(-area.kv_to // width)).clamp(0, columns)
        count = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        return count, (bottom - top) * (right - left)

    def __repr__(self) -> str:
        return f"chosen(<{' x '.join(map(str, self.table.shape))} blocks of {self.block_tokens}>)"


@dataclass(frozen=True)
class EachHead(Mask):
    """A mask for a batch, for the heads of the batch as samples of their own."""

    inner: Mask
    heads: int

    @property
    def batch(self) -> tuple[int, ...]:
        """The batch, and an axis of heads."""
        return (*self.inner.batch, self.heads)

    @property
    def known_positions(self) -> int | None:
        """What the inner mask was told of."""
        return self.inner.known_positions

    def sample(self, index: tuple[int, ...]) -> Mask:
        """The mask of the head's sample."""
        return self.inner.sample(index[:-1])

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """What the inner mask keeps, once more for each head."""
        keep = self.inner.keep(q_pos, kv_pos)
        places = max(q_pos.dim(), kv_pos.dim())
        keep = keep.unsqueeze(-1 - places)
        return keep.expand(*keep.shape[: -1 - places], self.heads, *keep.shape[keep.dim() - places :])


def attended(
    query: Query,
    key: Key,
    value: Value,
    chosen: Tensor,
    *,
    block_tokens: int,
    mask: Mask,
    q_start: int,
    dropout: float = 0.0,
) -> Context:
    """The context of softmax over the keys of the `chosen` blocks that `mask` keeps.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        value: `*batch kv_heads kv_len d_value`.
        chosen: `*batch choosers q_len blocks`; as many choosers as heads, or as kv heads, for all that share one.
        block_tokens: how many keys a block has.
        mask: what is hidden besides.
        q_start: the position of the first query.
        dropout: the share of weights to drop.
    """
    choosers = chosen.shape[-3]
    outer = EachHead(mask, choosers) if mask.batch else mask
    rule = Rule(mask=outer & Chosen(chosen, block_tokens, q_start), dropout=dropout)
    apart = query.unflatten(-3, (choosers, -1))
    key, value = (shared(side, choosers).unsqueeze(-3) for side in (key, value))
    return rule(apart, key, value, q_start=q_start, training=dropout > 0).flatten(-4, -3)


def kept_rows(mask: Mask, query: Query, key: Key, q_start: int) -> Iterator[tuple[slice, Keep]]:
    """A few queries at a time and what the mask keeps of them, so that it is never written out for all.

    Yields:
        Which queries, and bool in axes that broadcast to `*batch heads rows kv_len`.
    """
    q_len, kv_len = query.shape[-2], key.shape[-2]
    for start in range(0, max(q_len, 1), _ROWS):
        stop = min(start + _ROWS, q_len)
        keep = mask.at(torch.arange(q_start + start, q_start + stop, device=query.device), kv_len)
        yield slice(start, stop), keep.unsqueeze(-3) if keep.dim() > 2 else keep


def highest(scores: Tensor, count: int) -> Tensor:
    """Which are the `count` highest of each row; none that is -inf, and of equal ones the last.

    Example:
        >>> highest(torch.tensor([1.0, 3.0, 1.0, -torch.inf]), 2).tolist()
        [False, True, True, False]
    """
    order = scores.flip(-1).sort(dim=-1, descending=True, stable=True).indices[..., :count]
    places = scores.shape[-1] - 1 - order
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, places, True) & (scores > -torch.inf)


def by_blocks(tensor: Tensor, block_tokens: int) -> Tensor:
    """The last axis in blocks, `*axes blocks block_tokens`; what the last block lacks is zero."""
    missing = -tensor.shape[-1] % block_tokens
    return pad(tensor, (0, missing)).unflatten(-1, (-1, block_tokens))


def check_counts(where: str, *, least: int = 1, **counts: object) -> None:
    """Refuse options that count something and are no whole numbers from `least` upwards.

    Raises:
        OptionError: one of them is none.
    """
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < least:
            raise OptionError(
                where=where,
                what=f"{name} is a whole number, at least {least}; got {count!r}",
                fix=f"{name}={max(least, 4)}",
            )
