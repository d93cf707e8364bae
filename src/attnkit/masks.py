"""Masks: where a query may look, as a rule on positions. True keeps.

    keep(q_pos, kv_pos) -> bool

`nn.MultiheadAttention` reads True the other way round ("ignore"); `scaled_dot_product_attention` reads
it as here. The last query stands at the last key unless `q_start` says otherwise, so that `causal` is
right with a cache; `is_causal` of PyTorch puts the first query at the first key.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from attnkit.errors import DtypeError, OptionError, ShapeError
from attnkit.shapes import Keep


class Mask(ABC):
    """A rule that says for each query position which key positions it may read.

    Masks combine with `&` (both keep), `|` (either keeps) and `~` (the other way round). A mask may be
    another one for each sample: then its answers have batch axes in front.
    """

    @abstractmethod
    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """Whether a query at `q_pos` may read a key at `kv_pos`: bool, `*batch` and the positions broadcast."""

    def dense(
        self, q_len: int, kv_len: int, *, q_start: int | None = None, device: torch.device | None = None
    ) -> Keep:
        """The mask written out, `*batch q_len kv_len`, True keeps.

        Args:
            q_len: how many queries.
            kv_len: how many keys, at positions 0 to kv_len - 1.
            q_start: the position of the first query; `kv_len - q_len` when not given.
            device: where the result lives.

        Example:
            >>> causal.dense(2, 3).int().tolist()
            [[1, 1, 0], [1, 1, 1]]
        """
        start = kv_len - q_len if q_start is None else q_start
        q_pos = torch.arange(start, start + q_len, device=device)
        return self.at(q_pos, kv_len)

    def at(self, q_pos: Tensor, kv_len: int) -> Keep:
        """The rows of the queries at `q_pos` (q_len,), written out: `*batch q_len kv_len`."""
        kv_pos = torch.arange(kv_len, device=q_pos.device)
        keep = self.keep(q_pos[:, None], kv_pos[None, :])
        return keep.expand(*keep.shape[:-2], len(q_pos), kv_len)

    def __and__(self, other: "Mask") -> "Mask":
        return And(self, _mask(other, "&"))

    def __or__(self, other: "Mask") -> "Mask":
        return Or(self, _mask(other, "|"))

    def __invert__(self) -> "Mask":
        return Not(self)

    def __bool__(self) -> NoReturn:
        raise OptionError(
            where="Mask",
            what=f"{self!r} is a rule for many positions; it is neither true nor false",
            fix="combine masks with & | ~ where you wrote and, or, not",
        )


@dataclass(frozen=True)
class Full(Mask):
    """Every query reads every key."""

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True everywhere."""
        return (q_pos == q_pos) & (kv_pos == kv_pos)

    def __repr__(self) -> str:
        return "full"


@dataclass(frozen=True)
class Causal(Mask):
    """A query reads its own position and those before it."""

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where the key is not later than the query."""
        return kv_pos <= q_pos

    def __repr__(self) -> str:
        return "causal"


@dataclass(frozen=True, eq=False)
class Lengths(Mask):
    """Each sample has its own number of keys; what comes after them is padding."""

    kv_lengths: Tensor

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where the key is one of its sample's first `kv_lengths`."""
        return (kv_pos < self.kv_lengths.to(kv_pos.device)[..., None, None]) & (q_pos == q_pos)

    def __repr__(self) -> str:
        return f"lengths({self.kv_lengths.tolist()})"


@dataclass(frozen=True)
class Where(Mask):
    """A reader's own rule."""

    rule: Callable[[Tensor, Tensor], Tensor]

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """What the rule says, once it is known to be one bool for each pair of positions."""
        name = getattr(self.rule, "__name__", repr(self.rule))
        try:
            keep = self.rule(q_pos, kv_pos)
        except (RuntimeError, TypeError, IndexError) as error:
            raise OptionError(
                where="masks.where",
                what=f"{name} is asked for all positions at once, q_pos {tuple(q_pos.shape)} and kv_pos "
                f"{tuple(kv_pos.shape)}, and failed: {error}",
                fix="write it with tensor operations: & | ~ and torch.where, not and, or, not, if",
            ) from error
        _check_answer(name, keep, torch.broadcast_shapes(q_pos.shape, kv_pos.shape))
        return keep

    def __repr__(self) -> str:
        return f"where({getattr(self.rule, '__name__', repr(self.rule))})"


@dataclass(frozen=True)
class And(Mask):
    """Both masks keep."""

    left: Mask
    right: Mask

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where both keep."""
        return self.left.keep(q_pos, kv_pos) & self.right.keep(q_pos, kv_pos)

    def __repr__(self) -> str:
        return f"({self.left!r} & {self.right!r})"


@dataclass(frozen=True)
class Or(Mask):
    """At least one of two masks keeps."""

    left: Mask
    right: Mask

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where either keeps."""
        return self.left.keep(q_pos, kv_pos) | self.right.keep(q_pos, kv_pos)

    def __repr__(self) -> str:
        return f"({self.left!r} | {self.right!r})"


@dataclass(frozen=True)
class Not(Mask):
    """Keeps what another mask hides."""

    inner: Mask

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where the other says False."""
        return ~self.inner.keep(q_pos, kv_pos)

    def __repr__(self) -> str:
        return f"~{self.inner!r}"


full = Full()
causal = Causal()


def lengths(kv_lengths: Tensor | Sequence[int]) -> Lengths:
    """Keep the first `kv_lengths` keys of each sample, in tokens; the rest is padding.

    Args:
        kv_lengths: whole numbers `*batch`, none below 0; 0 means that this sample has nothing to read.

    Raises:
        DtypeError: `kv_lengths` are no whole numbers (a 0/1 padding mask, for instance).
        OptionError: one of them is negative.

    Example:
        >>> lengths([1, 2]).dense(1, 3).int().tolist()
        [[[1, 0, 0]], [[1, 1, 0]]]
    """
    counts = torch.as_tensor(kv_lengths)
    if counts.is_floating_point() or counts.dtype == torch.bool:
        raise DtypeError(
            where="masks.lengths",
            what=f"kv_lengths are numbers of tokens, one a sample; got {counts.dtype} {tuple(counts.shape)}",
            fix="for a padding mask that is 1 or True at real tokens: masks.lengths(padding.sum(-1).long())",
        )
    if counts.numel() and counts.min() < 0:
        raise OptionError(
            where="masks.lengths",
            what=f"a sample has at least 0 tokens; got {int(counts.min())}",
            fix="masks.lengths([0]) hides every key of a sample",
        )
    return Lengths(counts)


def where(keep: Callable[[Tensor, Tensor], Tensor]) -> Where:
    """A mask of your own: `keep(q_pos, kv_pos)` gives True where the query may read the key.

    Positions come as whole-number tensors that broadcast; the answer is a bool tensor of their common
    shape, with batch axes in front if samples differ.

    Example:
        >>> where(lambda q, k: (q - k) % 2 == 0).dense(2, 3).int().tolist()
        [[0, 1, 0], [1, 0, 1]]
    """
    if not callable(keep):
        raise OptionError(
            where="masks.where",
            what=f"keep is a function of (q_pos, kv_pos); got {type(keep).__name__}",
            fix="for a bool tensor that is True where a key may be read: masks.where(lambda q, k: tensor[..., q, k])",
        )
    return Where(keep)


def _mask(other: object, sign: str) -> Mask:
    if not isinstance(other, Mask):
        raise OptionError(
            where=f"Mask {sign}",
            what=f"masks combine with masks; got {type(other).__name__}",
            fix="wrap it: masks.where(lambda q, k: tensor[..., q, k]), bool, True keeps",
        )
    return other


def _check_answer(name: str, keep: object, shape: torch.Size) -> None:
    if not isinstance(keep, Tensor) or keep.dtype != torch.bool:
        given = str(keep.dtype) if isinstance(keep, Tensor) else type(keep).__name__
        raise DtypeError(
            where="masks.where",
            what=f"{name} must answer with a bool tensor, True keeps; it gave {given}",
            fix="end in a comparison such as (q - k) < 3, or in .bool()",
        )
    fits = all(given in (1, size) for given, size in zip(keep.shape[-2:], shape, strict=False))
    if keep.dim() < len(shape) or not fits:
        raise ShapeError(
            where="masks.where",
            what=f"{name} gave {tuple(keep.shape)} for positions of common shape {tuple(shape)}",
            fix="compute it from q and k element by element; batch axes go in front",
        )
