"""Lanes: pairs of a sample and a query head, as the one axis in front of length and width that kernels take."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from attnkit.masks import Mask
from attnkit.request import Request


@dataclass(frozen=True)
class Lanes:
    """Some samples, and of each kv head one of the query heads that read it: no key is copied for its readers.

    Attributes:
        samples: which samples.
        member: which of the query heads that share a kv head.
    """

    samples: slice
    member: int

    def of_query(self, whole: Tensor) -> Tensor:
        """(lanes, len, dim) of (batch, kv_heads, group, len, dim)."""
        return whole[self.samples, :, self.member].flatten(0, 1)

    def of_key(self, whole: Tensor) -> Tensor:
        """(lanes, len, dim) of (batch, kv_heads, len, dim)."""
        return whole[self.samples].flatten(0, 1)


def samples_of(request: Request, *, apart: bool) -> Iterator[tuple[slice, tuple[int, ...], Mask]]:
    """Samples that run at once, the index of the first of them, and their mask; `apart` gives each sample alone."""
    batch = request.query.shape[:-3]
    request.check_batch(request.mask.batch)
    if batch.numel() == 1 or not (request.mask.batch or apart):
        index = (0,) * len(batch)
        yield slice(None), index, _sample(request.mask, index)
        return
    for number in range(batch.numel()):
        index = tuple(int(place) for place in torch.unravel_index(torch.tensor(number), batch))
        yield slice(number, number + 1), index, _sample(request.mask, index)


def _sample(mask: Mask, index: tuple[int, ...]) -> Mask:
    """The mask of one sample: each time the same object, by which its plan is found again."""
    if not mask.batch:
        return mask
    try:
        return _known_sample(mask, index)
    except TypeError:  # a mask of the reader's own that has no hash
        return mask.sample(index)


@lru_cache(maxsize=256)
def _known_sample(mask: Mask, index: tuple[int, ...]) -> Mask:
    return mask.sample(index)


def room(like: Tensor, dtype: torch.dtype) -> Tensor:
    """An unwritten tensor shaped `like`, in whose memory all lanes of a place adjoin, as in what the kernel gives."""
    *lanes, length, dim = range(like.dim())
    memory = like.new_empty([like.shape[axis] for axis in (length, *lanes, dim)], dtype=dtype)
    return memory.movedim(0, -2)


def split(request: Request) -> tuple[Tensor, Tensor, Tensor]:
    """Query (batch, kv_heads, group, len, dim), key and value (batch, kv_heads, len, dim); numbers of a row adjoin."""
    sides = request.query, request.key, request.value
    query, key, value = (side if side.stride(-1) == 1 else side.contiguous() for side in sides)
    batch = request.query.shape[:-3].numel()
    query = query.reshape(batch, key.shape[-3], request.group, *query.shape[-2:])
    return query, key.reshape(batch, *key.shape[-3:]), value.reshape(batch, *value.shape[-3:])
