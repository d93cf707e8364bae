"""Softmax with dropout in training: a block of rows at a time, by hand, since no fused kernel drops weights on a CPU.

    context = (kept * weights / share) @ value,    share the chance to be kept

What is kept is drawn from a seed and the number of the block, 16 bits a weight, and is drawn again going back; so
neither it nor the weights are stored. The chance to drop is a multiple of 1 / 65536.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnkit.backends.tiled.lanes import Lanes
from attnkit.backends.tiled.runs import Block, blocks_of
from attnkit.backends.tiled.twice import first_derivative_only
from attnkit.masks import Mask

_ROWS = 128
_ELEMENTS = 1 << 20
_STEPS = 1 << 16


@dataclass(frozen=True, eq=False)
class Job:
    """What is no tensor of the call.

    Attributes:
        parts: all lanes, each once, and the mask of each.
        scale: multiplies the scores.
        q_start: the position of the first query.
        dropout: the chance to drop a weight.
        seed: what the draws begin from.
    """

    parts: Sequence[tuple[Lanes, Mask]]
    scale: float
    q_start: int
    dropout: float
    seed: int

    @property
    def dropped(self) -> int:
        """How many of the 65536 numbers of 16 bits drop a weight."""
        return round(self.dropout * _STEPS)

    @property
    def share(self) -> float:
        """The chance to be kept."""
        return 1 - self.dropped / _STEPS


def attend(query: Tensor, key: Tensor, value: Tensor, job: Job) -> Tensor:
    """The context (batch, kv_heads, group, len, d_value); query is alike, key and value have no axis of groups."""
    return _Dropped.apply(query, key, value, job)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, job: Job) -> Tensor:
        precise = torch.promote_types(query.dtype, torch.float32)
        context = query.new_zeros(*query.shape[:-1], value.shape[-1], dtype=precise)
        sides = query.to(precise), key.to(precise), value.to(precise)
        for tile in _tiles(job, *sides):
            weights = tile.weights(job.scale).mul_(tile.kept(job))
            into = tile.of_query(context)
            torch.baddbmm(into, weights, tile.of_key(sides[2]), beta=0, alpha=1 / job.share, out=into)
        ctx.job = job
        ctx.save_for_backward(query, key, value, context.to(query.dtype))
        return context.to(query.dtype)

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        job, dtype = ctx.job, gradient.dtype
        precise = torch.promote_types(dtype, torch.float32)
        query, key, value, context = (saved.to(precise) for saved in ctx.saved_tensors)
        gradient = gradient.to(precise)
        read = (gradient * context).sum(-1, keepdim=True)
        gradient, scaled = (gradient / job.share).contiguous(), query * job.scale
        found = [torch.zeros_like(side) for side in (query, key, value)]
        for tile in _tiles(job, query, key, value):
            weights, rows = tile.weights(job.scale), tile.of_query(gradient)
            used, change = tile.room(weights.shape)
            torch.mul(weights, tile.kept(job), out=used)
            tile.add_to_key(found[2], used.mT, rows)
            torch.bmm(rows, tile.of_key(value).mT, out=change)
            change.mul_(used).addcmul_(weights, tile.of_query(read), value=-1)
            into = tile.of_query(found[0])
            torch.baddbmm(into, change, tile.of_key(key), beta=0, alpha=job.scale, out=into)
            tile.add_to_key(found[1], change.mT, tile.of_query(scaled))
        return *(side.to(dtype) for side in found), None


class _Memory:
    """Room that one tile leaves to the next."""

    def __init__(self, elements: int, like: Tensor) -> None:
        self.scores, self.weights, self.spare = (like.new_empty(elements) for _ in range(3))
        self.kept = torch.empty(elements, dtype=torch.bool, device=like.device)
        self.bits = torch.empty(elements // 4 + 1, dtype=torch.int64, device=like.device)
        self.generator = torch.Generator(like.device)


@dataclass(frozen=True, eq=False)
class _Tile:
    """A block of rows in a few lanes.

    Attributes:
        lanes: which lanes a part has.
        some: which of those are here.
        block: which queries, and the keys that they read.
        hidden: (first column, what is hidden (rows, n)) of the spans that are not full.
        dead: (rows, 1) which queries read nothing; None when all read something.
        number: unlike that of any other tile.
        sides: query and key, whole.
        memory: where scores are written.
    """

    lanes: Lanes
    some: slice
    block: Block
    hidden: list[tuple[int, Tensor]]
    dead: Tensor | None
    number: int
    sides: tuple[Tensor, Tensor]
    memory: _Memory

    def of_query(self, whole: Tensor) -> Tensor:
        """The tile's part (lanes, rows, dim) of a tensor shaped like the queries."""
        return self.lanes.of_query(whole)[self.some, self.block.first : self.block.last]

    def of_key(self, whole: Tensor) -> Tensor:
        """The tile's part (lanes, width, dim) of a tensor shaped like the keys."""
        lanes = self.lanes.of_key(whole)[self.some]
        parts = [lanes[:, first:last] for first, last in self.block.stretches]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def add_to_key(self, whole: Tensor, left: Tensor, right: Tensor) -> None:
        """Add the product of `left` (lanes, width, rows) and `right` (lanes, rows, dim) to the same part."""
        lanes, place = self.lanes.of_key(whole)[self.some], 0
        for first, last in self.block.stretches:
            lanes[:, first:last].baddbmm_(left[:, place : place + last - first], right)
            place += last - first

    def weights(self, scale: float) -> Tensor:
        """The weights (lanes, rows, width), none dropped."""
        query, key = self.of_query(self.sides[0]), self.of_key(self.sides[1])
        shape = torch.Size((*query.shape[:2], key.shape[1]))
        scores = self.memory.scores[: shape.numel()].view(shape)
        torch.baddbmm(scores, query, key.mT, beta=0, alpha=scale, out=scores)
        for first, hidden in self.hidden:
            scores[..., first : first + hidden.shape[1]].masked_fill_(hidden, -math.inf)
        weights = self.memory.weights[: shape.numel()].view(shape)
        torch.softmax(scores, dim=-1, out=weights)
        return weights if self.dead is None else weights.masked_fill_(self.dead, 0.0)

    def room(self, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Twice the room for as many numbers, not filled; the second is that of the scores."""
        spare, scores = self.memory.spare, self.memory.scores
        return spare[: shape.numel()].view(shape), scores[: shape.numel()].view(shape)

    def kept(self, job: Job) -> Tensor:
        """Which weights are kept (lanes, rows, width): four draws of 16 bits from each whole number."""
        rows = self.block.last - self.block.first
        shape = torch.Size((self.some.stop - self.some.start, rows, self.block.width))
        bits = self.memory.bits[: -(-shape.numel() // 4)]
        bits.random_(-(1 << 63), None, generator=self.memory.generator.manual_seed(job.seed + self.number))
        drawn = bits.view(torch.int16)[: shape.numel()]
        kept = torch.ge(drawn, job.dropped - _STEPS // 2, out=self.memory.kept[: shape.numel()])
        return kept.view(shape)


def _tiles(job: Job, query: Tensor, key: Tensor, value: Tensor) -> Iterator[_Tile]:
    """All tiles, in the same order each time."""
    lengths = query.shape[-2], key.shape[-2]
    found = [(lanes, mask, blocks_of(mask, job.q_start, lengths, _ROWS)) for lanes, mask in job.parts]
    largest = max((_ROWS * block.width for *_, blocks in found for block in blocks), default=0)
    memory, number = _Memory(max(largest, _ELEMENTS), query), 0
    for lanes, mask, blocks in found:
        count = lanes.of_key(key).shape[0]
        for block in blocks:
            hidden, dead = _hidden(mask, block, job.q_start, query.device)
            step = max(1, _ELEMENTS // (block.width * (block.last - block.first)))
            for first in range(0, count, step):
                some = slice(first, min(first + step, count))
                yield _Tile(lanes, some, block, hidden, dead, number, (query, key), memory)
                number += 1


def _hidden(
    mask: Mask, block: Block, q_start: int, device: torch.device
) -> tuple[list[tuple[int, Tensor]], Tensor | None]:
    q_pos = torch.arange(block.first, block.last, device=device)[:, None] + q_start
    found: list[tuple[int, Tensor]] = []
    place = 0
    for first, last, full in block.spans:
        if not full:
            kv_pos = torch.arange(first, last, device=device)[None, :]
            found.append((place, ~mask.keep(q_pos, kv_pos).expand(q_pos.shape[0], last - first)))
        place += last - first
    if any(full for *_, full in block.spans):
        return found, None
    dead = torch.cat([hidden for _, hidden in found], dim=1).all(1, keepdim=True)
    return found, dead if bool(dead.any()) else None
