"""What a mask is, and how masks combine: both keep, either keeps, the other way round."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from attnkit.errors import OptionError, ShapeError
from attnkit.masks.area import Area, Cover
from attnkit.shapes import Keep

FOR_A_TENSOR = (
    "for a bool tensor, True keeps: masks.where(lambda q, k: tensor[..., q, k]); if it has fewer rows than "
    "columns, say q_start=0 in the call, or the first query would look for its row at kv_len - q_len"
)


class Mask(ABC):
    """A rule that says for each query position which key positions it may read.

    Masks combine with `&` (both keep), `|` (either keeps) and `~` (the other way round). A mask may be
    another one for each sample: then its answers have batch axes in front.
    """

    @abstractmethod
    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """Whether a query at `q_pos` may read a key at `kv_pos`.

        Positions are whole numbers of any shapes that broadcast. The answer is bool and broadcasts to their
        common shape; where samples differ, batch axes stand in front of it.
        """

    @property
    def batch(self) -> tuple[int, ...]:
        """The batch that the mask is for; () where it is the same for every sample."""
        return ()

    @property
    def relative(self) -> bool:
        """Whether `keep` depends on `q_pos - kv_pos` alone; False where that is not known."""
        return False

    def sample(self, index: tuple[int, ...]) -> "Mask":
        """The mask of one sample of the batch: `index` has a number for each batch axis."""
        return self

    def over(self, area: Area) -> Cover:
        """Whether some pair, and every pair, of whole rectangles is kept; they may hold no pair at all.

        A mask that knows nothing better says PARTIAL of each.
        """
        return Cover(area.anywhere, ~area.anywhere)

    def narrow(self, area: Area) -> Area:
        """Smaller rectangles that hold every kept pair of the given ones."""
        return area

    def cuts(self, length: int) -> Tensor:
        """Positions from 1 to `length - 1` (n,), sorted, where the pattern starts anew, so that tiles had better too."""
        return torch.empty(0, dtype=torch.int64)

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
            >>> from attnkit import masks
            >>> masks.causal.dense(2, 3).int().tolist()
            [[1, 1, 0], [1, 1, 1]]
        """
        start = kv_len - q_len if q_start is None else q_start
        q_pos = torch.arange(start, start + q_len, device=device)
        return self.at(q_pos, kv_len)

    def at(self, q_pos: Tensor, kv_len: int) -> Keep:
        """The rows of the queries at `q_pos` (q_len,), written out: `*batch q_len kv_len`."""
        kv_pos = torch.arange(kv_len, device=q_pos.device)
        keep = self.keep(q_pos[:, None], kv_pos[None, :])
        return keep.expand(*keep.shape[:-2], q_pos.shape[0], kv_len)

    def __and__(self, other: "Mask") -> "Mask":
        return And(self, _known(other, "&"))

    def __or__(self, other: "Mask") -> "Mask":
        return Or(self, _known(other, "|"))

    def __rand__(self, other: object) -> "Mask":
        raise _no_mask(other, "&")

    def __ror__(self, other: object) -> "Mask":
        raise _no_mask(other, "|")

    def __invert__(self) -> "Mask":
        return Not(self)

    def __bool__(self) -> NoReturn:
        raise OptionError(
            where="Mask",
            what=f"{self!r} is a rule for many positions; it is neither true nor false",
            fix="combine masks with & | ~ where you wrote and, or, not",
        )


@dataclass(frozen=True)
class _Pair(Mask):
    """Two masks: it is for a batch if one of them is, and tiles start anew where either does."""

    left: Mask
    right: Mask

    @property
    def batch(self) -> tuple[int, ...]:
        """The batch that one of them is for."""
        return self.left.batch or self.right.batch

    @property
    def relative(self) -> bool:
        """Whether both know nothing but the distance."""
        return self.left.relative and self.right.relative

    def sample(self, index: tuple[int, ...]) -> Mask:
        """The two masks of one sample."""
        return type(self)(self.left.sample(index), self.right.sample(index))

    def cuts(self, length: int) -> Tensor:
        """Where either starts anew."""
        return torch.cat([self.left.cuts(length), self.right.cuts(length)]).unique()


@dataclass(frozen=True)
class And(_Pair):
    """Both masks keep."""

    def over(self, area: Area) -> Cover:
        """Each is asked of the rectangle that the other leaves, or both could say yes of different pairs."""
        left, right = self.left.over(area), self.right.over(area)
        inner = self.narrow(self.narrow(area))  # twice: what the second leaves may let the first cut more
        some = inner.alive & self.left.over(inner).some & self.right.over(inner).some
        return Cover(some, left.every & right.every)

    def narrow(self, area: Area) -> Area:
        """What both leave."""
        return self.right.narrow(self.left.narrow(area))

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where both keep."""
        left, right = _answers(self, q_pos, kv_pos)
        return left & right

    def __repr__(self) -> str:
        return f"({self.left!r} & {self.right!r})"


@dataclass(frozen=True)
class Or(_Pair):
    """At least one of two masks keeps."""

    def over(self, area: Area) -> Cover:
        """Some pair of either; every pair of one of them."""
        left, right = self.left.over(area), self.right.over(area)
        return Cover(left.some | right.some, left.every | right.every)

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where either keeps."""
        left, right = _answers(self, q_pos, kv_pos)
        return left | right

    def __repr__(self) -> str:
        return f"({self.left!r} | {self.right!r})"


@dataclass(frozen=True)
class Not(Mask):
    """Keeps what another mask hides."""

    inner: Mask

    @property
    def batch(self) -> tuple[int, ...]:
        """The batch of the other."""
        return self.inner.batch

    @property
    def relative(self) -> bool:
        """Whether the other knows nothing but the distance."""
        return self.inner.relative

    def sample(self, index: tuple[int, ...]) -> Mask:
        """The other way round for one sample."""
        return Not(self.inner.sample(index))

    def over(self, area: Area) -> Cover:
        """What is not kept everywhere is hidden somewhere."""
        some, every = self.inner.over(area)
        return Cover(~every, ~some)

    def cuts(self, length: int) -> Tensor:
        """Where the other starts anew."""
        return self.inner.cuts(length)

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where the other says False."""
        return ~self.inner.keep(q_pos, kv_pos)

    def __repr__(self) -> str:
        return f"~{self.inner!r}"


def _answers(pair: _Pair, q_pos: Tensor, kv_pos: Tensor) -> tuple[Tensor, Tensor]:
    left, right = pair.left.keep(q_pos, kv_pos), pair.right.keep(q_pos, kv_pos)
    axes = max(q_pos.dim(), kv_pos.dim())
    batches = [tuple(keep.shape[: keep.dim() - axes]) for keep in (left, right)]
    if all(batches) and batches[0] != batches[1]:
        raise ShapeError(
            where="Mask",
            what=f"{pair.left!r} is for a batch of {batches[0]}, {pair.right!r} for a batch of {batches[1]}",
            fix="combine masks for one batch, or with a mask that is the same for every sample",
        )
    return left, right


def _known(other: object, sign: str) -> Mask:
    if not isinstance(other, Mask):
        raise _no_mask(other, sign)
    return other


def _no_mask(other: object, sign: str) -> OptionError:
    return OptionError(
        where=f"Mask {sign}", what=f"masks combine with masks; got {type(other).__name__}", fix=FOR_A_TENSOR
    )
