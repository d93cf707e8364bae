"""The mask function: what a model of transformers hides, as a mask of ours.

transformers describes a mask by a function of (batch, head, q, kv) that is made of smaller ones. Those that it is
usually made of are known here by their code and become masks whose empty tiles are known; any other is asked pair by
pair. Positions are its own: `kv_offset` is where the first key stands, and here keys are counted from 0.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from attnkit import masks
from attnkit.converters import from_flex
from attnkit.converters.table import Table
from attnkit.errors import need
from attnkit.hf.unwritten import Unwritten
from attnkit.masks import Mask
from attnkit.masks.nearby import band

MaskFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def mask_of_call(
    batch_size: int,
    q_length: int,
    kv_length: int,
    *,
    mask_function: MaskFunction | None = None,
    attention_mask: Tensor | None = None,
    **places: Any,
) -> Unwritten:
    """What transformers calls to make a mask, once a forward pass; it never answers with None, which says nothing.

    Args:
        batch_size: how many samples.
        q_length: how many queries.
        kv_length: how many keys.
        mask_function: of (batch, head, q, kv), positions; causal when not given.
        attention_mask: (batch, positions), True where there is a token; all are when not given.
        places: `q_offset` and `kv_offset`, the positions of the first query and key, 0 when not given; `device`. What
            else transformers says is for its own mask functions.
    """
    known = need("transformers.masking_utils", extra="hf", where="hf")
    first, device = int(places.get("kv_offset", 0)), places.get("device")
    function = known.causal_mask_function if mask_function is None else mask_function
    mask, starts = moved(translated(function, batch_size), first), None
    if attention_mask is not None:
        missing = max(kv_length + first - attention_mask.shape[-1], 0)
        tokens = pad(attention_mask.bool(), (0, missing))[:, first : first + kv_length]
        mask, starts = mask & Table(tokens[:, None, :]), tokens.long().argmax(-1)
    return Unwritten(  # pyright: ignore[reportCallIssue], which looks at Tensor.__init__
        mask,
        (batch_size, q_length, kv_length),
        q_start=int(places.get("q_offset", 0)) - first,
        first=first,
        starts=starts,
        device=None if device is None else torch.device(device),
    )


def translated(function: MaskFunction, batch: int) -> Mask:
    """The mask that keeps what a mask function of transformers keeps, for `batch` samples."""
    reader = _readers().get(getattr(function, "__code__", None))
    return from_flex(function, batch=batch) if reader is None else reader(_closed_over(function), batch)


def moved(mask: Mask, by: int | Tensor) -> Mask:
    """`mask` for positions that are counted from `by`; one number, or one a sample."""
    return mask if mask.relative or (isinstance(by, int) and by == 0) else Moved(mask, by)


@dataclass(frozen=True, eq=False)
class Moved(Mask):
    """Keeps at a position what another mask keeps `by` positions later.

    Attributes:
        mask: the other.
        by: one number, or one a sample, (batch,).
    """

    mask: Mask
    by: int | Tensor

    @property
    def batch(self) -> tuple[int, ...]:
        """That of the other mask, or one axis where samples are moved by numbers of their own."""
        return self.mask.batch or (tuple(self.by.shape) if isinstance(self.by, Tensor) else ())

    def sample(self, index: tuple[int, ...]) -> Mask:
        """The mask of one sample."""
        by = int(self.by[index]) if isinstance(self.by, Tensor) else self.by
        return Moved(self.mask.sample(index), by) if self.batch else self

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """What the other keeps there; keys before its first one are hidden."""
        if isinstance(self.by, int):
            q_pos, kv_pos = q_pos + self.by, kv_pos + self.by
            return self.mask.keep(q_pos, kv_pos.clamp(min=0)) & (kv_pos >= 0)
        kept = [self.sample((index,)).keep(q_pos, kv_pos) for index in range(len(self.by))]
        return torch.stack(torch.broadcast_tensors(*kept))

    def __repr__(self) -> str:
        return f"moved({self.mask!r}, {'by sample' if isinstance(self.by, Tensor) else self.by})"


@cache
def _readers() -> dict[Any, Callable[[dict[str, Any], int], Mask]]:
    """For the code of each mask function that transformers makes: what it says, by the values that it closes over."""
    hf = need("transformers.masking_utils", extra="hf", where="hf")

    def each(closed: dict[str, Any], batch: int) -> list[Mask]:
        return [translated(function, batch) for function in closed["mask_functions"]]

    some = torch.zeros(1, 1, dtype=torch.long)
    return {
        hf.causal_mask_function.__code__: lambda closed, batch: masks.causal,
        hf.bidirectional_mask_function.__code__: lambda closed, batch: masks.full,
        hf.and_masks().__code__: lambda closed, batch: reduce(
            lambda one, two: one & two, each(closed, batch)
        ),
        hf.or_masks().__code__: lambda closed, batch: reduce(lambda one, two: one | two, each(closed, batch)),
        hf.sliding_window_overlay(1).__code__: lambda closed, batch: masks.window(closed["sliding_window"]),
        hf.sliding_window_bidirectional_overlay(1).__code__: lambda closed, batch: band(
            closed["sliding_window"] + 1
        ),
        hf.padding_mask_function(some).__code__: lambda closed, batch: Table(
            closed["padding_mask"].bool()[:, None, :]
        ),
        hf.packed_sequence_mask_function(some).__code__: lambda closed, batch: masks.documents(
            closed["packed_sequence_mask"]
        ),
    }


def _closed_over(function: MaskFunction) -> dict[str, Any]:
    return dict(inspect.getclosurevars(function).nonlocals)
