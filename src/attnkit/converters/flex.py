"""Masks of FlexAttention: a `mask_mod` is a function of four scalars, that says True for keep.

    mask_mod(b, h, q_idx, kv_idx) = mask.sample(b).keep(q_idx + q_start, kv_idx)

The trap: its indices count from 0 in each call, so with a cache the first query is no longer the first position, and
`q_idx >= kv_idx` puts it at the first key. A mask here knows positions, and `q_start` says where the queries stand.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.converters.reading import check_mask
from attnkit.errors import DtypeError, OptionError
from attnkit.masks import Mask
from attnkit.shapes import type_of

MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def to_flex(mask: Mask, *, q_start: int = 0) -> MaskMod:
    """The `mask_mod` that says the same as `mask`, the same for every head.

    A batch of several axes is counted through, as FlexAttention has one: sample (i, j) of (2, 5) is b = 5 * i + j.
    A `BlockMask` is best made by `block_mask`, which needs no table of q_len x kv_len.

    Args:
        mask: any mask.
        q_start: the position of the first query, in tokens: with a cache, `kv_len - q_len`.

    Example:
        >>> from attnkit import masks
        >>> mask_mod = to_flex(masks.causal, q_start=1)
        >>> b = h = q_idx = torch.tensor(0)
        >>> [mask_mod(b, h, q_idx, torch.tensor(kv_idx)).item() for kv_idx in range(3)]
        [True, True, False]
    """
    check_mask("to_flex", mask)
    batch = mask.batch

    def mask_mod(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        at = q_idx + q_start
        sample = mask.sample(sample_index(b, batch))  # pyright: ignore[reportArgumentType]
        kept = sample.keep(at[None, None], kv_idx[None, None])
        return kept[0, 0]

    return mask_mod


def sample_index(b: Tensor, batch: tuple[int, ...]) -> tuple[Tensor, ...]:
    """The place of sample number `b` in a `batch` of any axes."""
    if len(batch) == 1:
        return (b,)
    return tuple(b // math.prod(batch[axis + 1 :]) % size for axis, size in enumerate(batch))


def from_flex(mask_mod: MaskMod, *, batch: int | None = None, q_start: int = 0) -> Mask:
    """The mask that says the same as a `mask_mod`. Nothing is known of its tiles, as `mask_mod` can only be asked.

    Args:
        mask_mod: a function of (b, h, q_idx, kv_idx) that keeps where it says True, the same for every head.
        batch: how many samples it tells apart; None where it does not read `b`.
        q_start: the position of the query that it calls 0.

    Raises:
        OptionError: `mask_mod` is no function; or at the call: it is not one of four arguments, or reads `h`, or `b`
            where no `batch` is given.
        DtypeError: at the call: it does not answer with bools.

    Example:
        >>> from_flex(lambda b, h, q_idx, kv_idx: q_idx >= kv_idx).dense(2, 2).int().tolist()
        [[1, 0], [1, 1]]
    """
    if not callable(mask_mod) or hasattr(mask_mod, "kv_num_blocks"):
        raise OptionError(
            where="from_flex",
            what=f"mask_mod is a function of (b, h, q_idx, kv_idx); got {type_of(mask_mod)}",
            fix="block_mask.mask_mod is the function of a BlockMask; blocks that were left out of it by hand are "
            "not in the function",
        )
    return _Modded(mask_mod, batch, q_start)


@dataclass(frozen=True)
class _Modded(Mask):
    """Keeps what a `mask_mod` says of one sample, or of each."""

    mask_mod: MaskMod
    samples: int | None
    q_start: int
    chosen: Tensor | int | None = None

    @property
    def batch(self) -> tuple[int, ...]:
        """One axis, if samples differ."""
        return () if self.samples is None or self.chosen is not None else (self.samples,)

    def sample(self, index: tuple[int | Tensor, ...]) -> Mask:
        """What it says of one sample."""
        return _Modded(self.mask_mod, self.samples, self.q_start, index[0]) if self.batch else self

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """What the function says, in the shape of the positions."""
        shape = torch.broadcast_shapes(q_pos.shape, kv_pos.shape)
        b = torch.zeros_like(kv_pos).as_subclass(_Unread)
        if self.chosen is not None:
            b = torch.as_tensor(self.chosen, device=kv_pos.device)
        elif self.samples is not None:
            b = torch.arange(self.samples, device=kv_pos.device)[(...,) + (None,) * len(shape)]
        h = torch.zeros_like(kv_pos).as_subclass(_Unread)
        try:
            kept = self.mask_mod(b, h, q_pos - self.q_start, kv_pos)
        except TypeError as error:
            if "positional argument" not in str(error):
                raise
            raise OptionError(
                where="from_flex",
                what=f"mask_mod is called as mask_mod(b, h, q_idx, kv_idx), and failed: {error}",
                fix="a function of two positions is masks.where(keep)",
            ) from error
        if not isinstance(kept, Tensor) or kept.dtype != torch.bool:
            raise DtypeError(
                where="from_flex",
                what=f"a mask_mod answers with a bool, True keeps; it gave {type_of(kept)}",
                fix="a score_mod changes scores and is no mask: Rule(scores=(step,))",
            )
        whole = torch.Size((*self.batch, *shape))
        return kept if kept.shape == whole else kept.expand(whole)

    def __repr__(self) -> str:
        return f"from_flex({getattr(self.mask_mod, '__name__', 'mask_mod')})"


class _Unread(Tensor):
    """An index that a mask_mod may be given and must not look at."""

    @classmethod
    def __torch_function__(
        cls, func: object, types: object, args: object = (), kwargs: object = None
    ) -> object:
        if getattr(func, "__name__", "") in ("new_ones", "new_zeros", "new_full", "__get__"):
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))  # pyright: ignore
        raise OptionError(
            where="from_flex",
            what="this mask_mod reads h, or reads b while no batch is given",
            fix="batch=the number of samples; a mask is the same for every head, so masks that differ need a rule each",
        )
