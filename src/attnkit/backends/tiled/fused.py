"""Softmax over the tiles that a mask keeps: each batch of tiles is one call of the fused kernel, forward and backward.

Where two tiles have the same queries, their contexts mix by how much each has read:

    share = sigmoid(lse_2 - lse_1);    context = context_1 + share * (context_2 - context_1)
    lse = log(exp(lse_1) + exp(lse_2))

A sink is one more term that no key gets, so it is mixed in with a context of zero. The backward pass asks each tile
for its part of the gradients with the log-sum-exp and the context of the *whole* row, which makes the parts add up.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnkit.backends.tiled import kernel
from attnkit.backends.tiled.added import Added
from attnkit.backends.tiled.lanes import Lanes, room
from attnkit.backends.tiled.plan import Plan, Question, plan_of
from attnkit.backends.tiled.twice import first_derivative_only
from attnkit.backends.tiled.views import add_key_tiles, chunks, key_tiles, query_tiles
from attnkit.masks import Mask
from attnkit.scores import Additive

# what one call of the kernel gives back: with fewer and larger calls, threads wait less often for each other
_CALL_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Job:
    """What is no tensor of the call.

    Attributes:
        samples: which samples run at once, the index of the first, and their mask.
        steps: what is added to the scores.
        scale: multiplies the scores.
        q_start: the position of the first query.
        batch_shape: the batch axes of query, key and value.
    """

    samples: Sequence[tuple[slice, tuple[int, ...], Mask]]
    steps: Sequence[Additive]
    scale: float
    q_start: int
    batch_shape: tuple[int, ...]

    @property
    def one_pattern(self) -> bool:
        """Whether what is added to a tile is the same for all samples."""
        return (
            len(self.samples) > 1
            and len({id(mask) for *_, mask in self.samples}) == 1
            and all(step.relative for step in self.steps)
        )


@dataclass(frozen=True, eq=False)
class _Part:
    """Lanes that share a plan."""

    lanes: Lanes
    plan: Plan
    added: Added


def _parts(job: Job, query: Tensor, key: Tensor, *, backward: bool) -> list[_Part]:
    """All lanes, each once, and what runs on them."""
    _, kv_heads, group, q_len, dim = query.shape
    like = query.new_empty(0, dtype=torch.promote_types(query.dtype, torch.float32))
    biased = kv_heads if job.steps else 0
    found: list[_Part] = []
    shared: dict[int, Added] = {}
    for samples, index, mask in job.samples:
        count = kv_heads * len(range(query.shape[0])[samples])
        plan = plan_of(mask, Question(q_len, key.shape[2], job.q_start, count, dim, biased, backward))
        for member in range(group):
            added = shared.get(member) or Added(
                steps=job.steps,
                heads=kv_heads * group,
                chosen=slice(member, None, group),
                batch_shape=job.batch_shape,
                sample=index,
                q_start=job.q_start,
                batches=plan.batches,
                like=like,
            )
            if job.one_pattern:
                shared[member] = added
            found.append(_Part(Lanes(samples, member), plan, added))
    return found


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, sink: Tensor | None, job: Job
    ) -> tuple[Tensor, Tensor]:
        parts = _parts(job, query, key, backward=False)
        precise = torch.promote_types(query.dtype, torch.float32)
        mixed = any(batch.rank for part in parts for batch in part.plan.batches)
        covers = all(part.plan.covers for part in parts)
        context = room(query, precise if mixed else query.dtype)
        lse = room(query[..., :1], precise)[..., 0]
        if not covers:
            context.zero_()
            lse.fill_(-math.inf)
        for part in parts:
            tensors = (part.lanes.of_query(query), part.lanes.of_key(key), part.lanes.of_key(value))
            _attend(
                part, tensors, part.lanes.of_query(context), part.lanes.of_query(lse[..., None]), job.scale
            )
        if sink is not None:
            total = torch.logaddexp(lse, sink.to(lse)[..., None])
            context.mul_((lse - total).exp_().masked_fill_(lse == -math.inf, 0.0)[..., None])
            lse = total
        context = context.to(query.dtype)
        ctx.save_for_backward(query, key, value, sink, context, lse)
        ctx.job = job
        ctx.mark_non_differentiable(lse)
        return context, lse

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, sink, context, lse = ctx.saved_tensors
        parts = _parts(ctx.job, query, key, backward=True)
        precise = torch.promote_types(query.dtype, torch.float32)
        mixed = any(batch.rank for part in parts for batch in part.plan.batches)
        covers = all(part.plan.covers for part in parts)
        found = room(query, precise if mixed else query.dtype), room(key, precise), room(value, precise)
        for whole in found if not covers else found[1:]:
            whole.zero_()
        finite = lse.masked_fill(lse == -math.inf, 0.0)[..., None]
        gradient = gradient if gradient.stride(-1) == 1 else gradient.contiguous()
        for part in parts:
            of_query = [part.lanes.of_query(whole) for whole in (query, context, finite, gradient, found[0])]
            of_key = [part.lanes.of_key(whole) for whole in (key, value, found[1], found[2])]
            _send_back(part, of_query, of_key, ctx.job.scale)
        to_sink = None
        if sink is not None and ctx.needs_input_grad[3]:
            read = (gradient.to(precise) * context).sum(-1)
            to_sink = -((sink.to(lse)[..., None] - finite[..., 0]).exp_() * read).sum((0, -1)).to(sink)
        return *(part.to(query) for part in found), to_sink, None


def _attend(
    part: _Part, tensors: tuple[Tensor, Tensor, Tensor], context: Tensor, lse: Tensor, scale: float
) -> None:
    """Write the context and log-sum-exp of all batches of a plan."""
    query, key, value = tensors
    lane_bytes = query.shape[0] * query.shape[2] * query.element_size()
    for batch in part.plan.batches:
        tile_bytes = max(lane_bytes * batch.rows, 8 * part.added.tile_bytes(batch))
        for first, count in chunks(batch, tile_bytes, _CALL_BYTES):
            at = batch, first, count
            bias, dead = part.added.of(*at)
            new, new_lse = kernel.forward(
                query_tiles(query, *at),
                key_tiles(key, *at),
                key_tiles(value, *at),
                bias=bias,
                causal=batch.square,
                scale=scale,
            )
            if dead is not None:
                new_lse = new_lse.masked_fill(dead[:, None] if dead.dim() == 2 else dead, -math.inf)
            old, old_lse = query_tiles(context, *at), query_tiles(lse, *at)[..., 0]
            if batch.rank == 0:
                old.copy_(new)
                old_lse.copy_(new_lse)
                continue
            share = torch.sigmoid(new_lse - old_lse).masked_fill_(new_lse == -math.inf, 0.0)
            old.lerp_(new.to(old), share[..., None])
            old_lse.copy_(torch.logaddexp(old_lse, new_lse))


def _send_back(part: _Part, of_query: list[Tensor], of_key: list[Tensor], scale: float) -> None:
    """Add the gradients of all batches of a plan to the last tensors of `of_query` and `of_key`."""
    query, context, lse, gradient, to_query = of_query
    key, value, to_key, to_value = of_key
    lane_bytes = query.shape[0] * query.shape[2] * query.element_size()
    for batch in part.plan.batches:
        tile_bytes = max(lane_bytes * batch.width, 8 * part.added.tile_bytes(batch))
        for first, count in chunks(batch, tile_bytes, _CALL_BYTES):
            at = batch, first, count
            tile = (
                query_tiles(query, *at),
                key_tiles(key, *at),
                key_tiles(value, *at),
                query_tiles(context, *at),
                query_tiles(lse, *at)[..., 0],
            )
            bias, _ = part.added.of(*at)
            new = kernel.backward(
                query_tiles(gradient, *at), tile, bias=bias, causal=batch.square, scale=scale
            )
            old = query_tiles(to_query, *at)
            old.copy_(new[0]) if batch.rank == 0 else old.add_(new[0])
            add_key_tiles(to_key, new[1], batch, first)
            add_key_tiles(to_value, new[2], batch, first)


def attend(query: Tensor, key: Tensor, value: Tensor, sink: Tensor | None, job: Job) -> tuple[Tensor, Tensor]:
    """The context, and the logarithm of each row's sum without a gradient.

    Args:
        query: (batch, kv_heads, group, q_len, dim).
        key: (batch, kv_heads, kv_len, dim).
        value: (batch, kv_heads, kv_len, dim).
        sink: (kv_heads, group), or None.
        job: the rest.

    Returns:
        (batch, kv_heads, group, q_len, dim), and the same without dim.
    """
    return _Tiled.apply(query, key, value, sink, job)
