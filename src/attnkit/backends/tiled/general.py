"""Any rule at all: the eager rule on some queries and the keys that the mask leaves them, computed again going back.

Nothing of a block is kept for the backward pass but the inputs and a seed, so memory grows with the length, not with
its square.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attnkit.backends import eager
from attnkit.backends.tiled.captured import Swapped, captured_tensors, refuse_strange, strangers
from attnkit.backends.tiled.precision import same_again
from attnkit.backends.tiled.runs import Block, blocks_of
from attnkit.backends.tiled.twice import first_derivative_only
from attnkit.masks import Area, Mask
from attnkit.request import Request

_ROWS = 128
_ELEMENTS = 1 << 23


@dataclass(frozen=True, eq=False)
class _AnySample(Mask):
    """Keeps what some sample keeps: the keys that a block of rows needs, when samples go together."""

    whole: Mask

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where any sample does."""
        return self.whole.keep(q_pos, kv_pos).flatten(0, len(self.whole.batch) - 1).any(0)

    def some(self, area: Area) -> Tensor:
        """Some pair of some sample."""
        some = self.whole.some(area)
        return some.flatten(0, -2).any(0) if some.dim() > 1 else some

    def every(self, area: Area) -> Tensor:
        """Every pair of every sample."""
        every = self.whole.every(area)
        return every.flatten(0, -2).all(0) if every.dim() > 1 else every

    def cuts(self, length: int) -> Tensor:
        """Where any sample starts anew."""
        return self.whole.cuts(length)


def blocks(request: Request) -> list[Block]:
    """The blocks that a request is computed in, few enough rows each that their scores stay in a cache."""
    mask = _AnySample(request.mask) if request.mask.batch else request.mask
    lanes = math.prod(request.query.shape[:-2])
    rows = max(1, min(_ROWS, _ELEMENTS // max(1, lanes * request.kv_len)))
    return blocks_of(mask, request.q_start, (request.q_len, request.kv_len), rows)


def attend(request: Request) -> Tensor:
    """The context, `*batch heads q_len d_value`; gradients reach all that the rule brings along.

    Raises:
        ShapeError: the mask is for another batch.
    """
    request.check_batch(request.mask.batch)
    originals = captured_tensors(request)
    watched = torch.is_grad_enabled() and bool(strangers(request))
    precision = same_again(request.query.device.type)
    call = _Call(request, blocks(request), seed_of(request), originals, watched, precision)
    return _General.apply(call, request.query, request.key, request.value, *originals)


@dataclass(frozen=True, eq=False)
class _Call:
    """What is no input.

    Attributes:
        request: the whole.
        blocks: its parts.
        seed: what dropout is drawn from.
        originals: what the rule brings along.
        watched: whether it might bring more, that was not found.
        precision: what autocast was when it was called.
    """

    request: Request
    blocks: list[Block]
    seed: int
    originals: tuple[Tensor, ...]
    watched: bool
    precision: Callable[[], AbstractContextManager[Any]]

    def context(self, block: Block, sides: tuple[Tensor, ...], copies: tuple[Tensor, ...]) -> Tensor:
        """The context of a block's queries, given the queries, keys and values that it reads."""
        request, device = self.request, sides[0].device
        q_at = torch.arange(block.first, block.last, device=device) + request.q_start
        kv_at = torch.cat([torch.arange(*stretch, device=device) for stretch in block.stretches])
        generator = torch.Generator(device).manual_seed(self.seed + block.first) if request.dropout else None
        query, key, value = sides
        part = replace(
            request, query=query, key=key, value=value, q_at=q_at, kv_at=kv_at, generator=generator
        )
        strange = refuse_strange if self.watched and not torch.is_grad_enabled() else None
        swapped = Swapped(self.originals, copies, strange) if self.originals or strange else nullcontext()
        with self.precision(), swapped:
            return eager.run(part)


class _General(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, call: _Call, query: Tensor, key: Tensor, value: Tensor, *captives: Tensor
    ) -> Tensor:
        ctx.call = call
        ctx.save_for_backward(query, key, value, *captives)
        with call.precision():
            dtype = (query.new_zeros(1, 1) @ key.new_zeros(1, 1)).dtype
        context = query.new_zeros(*query.shape[:-1], value.shape[-1], dtype=dtype)
        copies = tuple(captive.detach() for captive in captives)
        for block in call.blocks:
            sides = _sides(block, query.detach(), key.detach(), value.detach())
            context[..., block.first : block.last, :] = call.context(block, sides, copies)
        return context

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *captives = ctx.saved_tensors
        copies = tuple(tensor.detach().requires_grad_() for tensor in captives)
        precise = torch.promote_types(query.dtype, torch.float32)
        found = [torch.zeros_like(side, dtype=precise) for side in (query, key, value)]
        to_captives = [torch.zeros_like(captive) for captive in captives]
        for block in ctx.call.blocks:
            sides = tuple(side.detach().requires_grad_() for side in _sides(block, query, key, value))
            with torch.enable_grad():
                context = ctx.call.context(block, sides, copies)
            part = gradient[..., block.first : block.last, :]
            new = torch.autograd.grad(context, (*sides, *copies), part, allow_unused=True)
            _add(block, found, new[:3])
            for whole, more in zip(to_captives, new[3:], strict=True):
                if more is not None:
                    whole += more
        return None, *(whole.to(query.dtype) for whole in found), *to_captives


def _sides(block: Block, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
    """The queries of a block, its keys and its values."""
    read = [[side[..., first:last, :] for first, last in block.stretches] for side in (key, value)]
    key, value = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2) for parts in read)
    return query[..., block.first : block.last, :], key, value


def _add(block: Block, whole: list[Tensor], new: tuple[Tensor | None, ...]) -> None:
    """Add the gradients of a block's queries, keys and values where they belong."""
    query, *others = new
    if query is not None:
        whole[0][..., block.first : block.last, :] += query
    for side, found in zip(whole[1:], others, strict=True):
        place = 0
        if found is None:
            continue
        for first, last in block.stretches:
            side[..., first:last, :] += found[..., place : place + last - first, :]
            place += last - first


def seed_of(request: Request) -> int:
    """What the dropout of a call begins from, drawn from its generator; 0 without dropout."""
    if not request.dropout:
        return 0
    device = "cpu" if request.generator is None else request.generator.device
    return int(torch.empty((), dtype=torch.int64, device=device).random_(generator=request.generator))
