"""Tiles as strided views: a batch of them is one tensor, and no key is copied though their spans overlap."""

from collections.abc import Iterator

from torch import Tensor

from attnkit.backends.tiled.plan import Batch


def tiles(whole: Tensor, first: int, step: int, size: int, count: int) -> Tensor:
    """(count, lanes, size, dim): tile i is `size` places of `whole` (lanes, len, dim) from `first + i * step` on."""
    lane, place, entry = whole.stride()
    return whole.as_strided(
        (count, whole.shape[0], size, whole.shape[2]),
        (step * place, lane, place, entry),
        whole.storage_offset() + first * place,
    )


def query_tiles(whole: Tensor, batch: Batch, first: int, count: int) -> Tensor:
    """The queries of `count` tiles of `batch`, the first being number `first`."""
    return tiles(whole, batch.q_from + first * batch.q_step, batch.q_step, batch.rows, count)


def key_tiles(whole: Tensor, batch: Batch, first: int, count: int) -> Tensor:
    """The keys, or the values, of the same tiles."""
    return tiles(whole, batch.kv_from + first * batch.kv_step, batch.kv_step, batch.width, count)


def add_key_tiles(whole: Tensor, found: Tensor, batch: Batch, first: int) -> None:
    """Add `found` (count, lanes, width, dim) to the places of `whole` that `key_tiles` shows, though they overlap.

    A stretch as long as the step does not overlap with the same stretch of the next tile, so each is one addition.
    """
    start, step, count = batch.kv_from + first * batch.kv_step, batch.kv_step, found.shape[0]
    if step == 0:
        tiles(whole, start, 0, batch.width, 1).add_(found.sum(0, keepdim=True))
        return
    for place in range(0, batch.width, step):
        part = found[:, :, place : place + step]
        tiles(whole, start + place, step, part.shape[2], count).add_(part)


def chunks(batch: Batch, tile_bytes: int, most_bytes: int) -> Iterator[tuple[int, int]]:
    """(first, count) of stretches of the tiles in `batch`, as many as `most_bytes` allow, but at least one."""
    most = max(1, most_bytes // max(tile_bytes, 1))
    for first in range(0, batch.count, most):
        yield first, min(most, batch.count - first)
