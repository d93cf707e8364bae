"""What is added to the scores of a tile: -inf where the mask hides, and the bias of score steps that only add.

What depends on the distance `q_pos - kv_pos` alone is written out once, for all distances, and tiles are slices of it:

    table[i, j] = added(distance = far + i - j)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from attnkit.backends.tiled.plan import Batch
from attnkit.masks import Mask
from attnkit.scores import Additive
from attnkit.scores.step import check_bias

_Pair = tuple[Tensor | None, Tensor | None]


@dataclass(frozen=True, eq=False)
class Added:
    """What is added for some lanes, tile by tile.

    Attributes:
        steps: the biases; each of their answers is for all heads and samples.
        heads: how many query heads there are.
        chosen: which of them the lanes are.
        batch_shape: the batch of the request.
        sample: which sample of it the lanes are, a number an axis; zeros where the bias is the same for all.
        q_start: the position of the first query.
        batches: all that will be asked for.
        like: a tensor of the wanted dtype and device.
    """

    steps: Sequence[Additive]
    heads: int
    chosen: slice
    batch_shape: tuple[int, ...]
    sample: tuple[int, ...]
    q_start: int
    batches: Sequence[Batch]
    like: Tensor
    _known: dict[object, "_Pair | _Table"] = field(default_factory=dict)

    def of(self, batch: Batch, first: int, count: int) -> _Pair:
        """The bias (count or 1, lanes or 1, rows, width), None for none, and which rows (..., rows) read nothing."""
        if batch.square or (batch.mask is None and not self.steps):
            return None, None
        relative = self._is_relative(batch)
        if relative and batch.moves_together:
            if id(batch) not in self._known:
                self._known[id(batch)] = self._slice(batch, 0)
            return self._known[id(batch)]  # pyright: ignore[reportReturnType]
        places = range(first, first + count)
        found = [self._slice(batch, i) if relative else self._written(batch, i) for i in places]
        biases, dead = zip(*found, strict=True)
        return torch.cat(biases), None if dead[0] is None else torch.cat(dead)

    def tile_bytes(self, batch: Batch) -> int:
        """What a tile of `batch` needs that is not shared with the others."""
        if batch.square or (batch.mask is None and not self.steps):
            return 0
        if self._is_relative(batch) and batch.moves_together:
            return 0
        heads = len(range(self.heads)[self.chosen]) if self.steps else 1
        return batch.rows * batch.width * heads * self.like.element_size()

    def _is_relative(self, batch: Batch) -> bool:
        return all(step.relative for step in self.steps) and (batch.mask is None or batch.mask.relative)

    def _slice(self, batch: Batch, i: int) -> _Pair:
        if batch.mask not in self._known:
            self._known[batch.mask] = self._table(batch.mask)
        table = self._known[batch.mask]
        assert isinstance(table, _Table)
        return table.of(_distance(batch, i) + self.q_start, batch.rows, batch.width)

    def _table(self, mask: Mask | None) -> "_Table":
        alike = [batch for batch in self.batches if batch.mask == mask and not batch.square]
        ends = [(b, _distance(b, i)) for b in alike for i in (0, b.count - 1)]
        far = max(distance for _, distance in ends) + self.q_start
        near = min(distance - b.width for b, distance in ends) + self.q_start
        farthest = max(distance + b.rows - 1 for b, distance in ends) + self.q_start
        rows = max(b.rows for b in alike)
        # all distances once, from the farthest down, as one query and its keys; positions begin at 0, as in a real call
        places = torch.arange(farthest - near, device=self.like.device)[None, :] + max(-farthest, 0)
        bias, keep = self._at(mask, places.new_full((1, 1), max(farthest, 0)), places)
        missing = far + rows - 1 - farthest  # the last row of tiles may have fewer rows than others
        return _Table(
            far, _sliding(bias, missing, rows), None if keep is None else _sliding(keep, missing, rows)
        )

    def _written(self, batch: Batch, i: int) -> _Pair:
        q_from, kv_from = batch.q_from + i * batch.q_step + self.q_start, batch.kv_from + i * batch.kv_step
        q_pos = torch.arange(q_from, q_from + batch.rows, device=self.like.device)[:, None]
        kv_pos = torch.arange(kv_from, kv_from + batch.width, device=self.like.device)[None, :]
        bias, keep = self._at(batch.mask, q_pos, kv_pos)
        return bias[None], None if keep is None else ~keep.any(-1)

    def _at(self, mask: Mask | None, q_pos: Tensor, kv_pos: Tensor) -> tuple[Tensor, Tensor | None]:
        """The bias (lanes or 1, rows, width) at these positions, and what the mask keeps of them (1, rows, width)."""
        shape = q_pos.shape[0], kv_pos.shape[1]
        bias = self.like.new_zeros(1, *shape)
        for step in self.steps:
            bias = bias + self._bias(step, q_pos, kv_pos)
        if mask is None:
            return bias, None
        keep = mask.keep(q_pos, kv_pos).expand(1, *shape)
        return bias.masked_fill(~keep, -math.inf), keep

    def _bias(self, step: Additive, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        head = torch.arange(self.heads, device=self.like.device)[:, None, None]
        found = step.bias(head, q_pos, kv_pos)
        shape = torch.Size((*self.batch_shape, self.heads, q_pos.shape[0], kv_pos.shape[1]))
        check_bias(step, found, shape)
        return found.to(self.like).expand(shape)[self.sample][self.chosen]


def _sliding(row: Tensor, missing: int, rows: int) -> Tensor:
    """(n, rows, columns) of (n, 1, distances): each row begins one distance farther than the row above it."""
    padded = torch.nn.functional.pad(row[:, 0], (missing, 0))
    return padded.unfold(-1, padded.shape[-1] - rows + 1, 1).flip(-2)


@dataclass(frozen=True, eq=False)
class _Table:
    """`bias[:, i, j]` is for a query `far + i - j` positions after its key; `keep` likewise."""

    far: int
    bias: Tensor
    keep: Tensor | None

    def of(self, distance: int, rows: int, width: int) -> _Pair:
        """The slice for a tile whose first query stands `distance` after its first key."""
        there = slice(self.far - distance, self.far - distance + width)
        keep = None if self.keep is None else ~self.keep[:, :rows, there].any(-1)
        return self.bias[None, :, :rows, there], keep


def _distance(batch: Batch, i: int) -> int:
    return batch.q_from + i * batch.q_step - batch.kv_from - i * batch.kv_step
