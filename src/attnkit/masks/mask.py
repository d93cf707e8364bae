"""What a mask is, and how masks combine: both keep, either keeps, the other way round.

(a & b)(q, k) = a(q, k) and b(q, k)        (a | b)(q, k) = a(q, k) or b(q, k)        (~a)(q, k) = not a(q, k)
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import NoReturn

import torch
from torch import Tensor

from attnkit.errors import OptionError, ShapeError
from attnkit.masks.area import Area
from attnkit.masks.pattern import Pattern

FOR_A_TENSOR = (
    "for a bool tensor, True keeps: masks.where(lambda q, k: tensor[..., q, k]); if it has fewer rows than "
    "columns, say q_start=0 in the call, or the first query would look for its row at kv_len - q_len"
)


_FOR_A_FUNCTION = (
    "a function of (q_pos, kv_pos) becomes a mask by masks.where(function); "
    "masks that are functions themselves want their numbers, as in masks.window(256)"
)


def instead_of(given: object) -> str:
    """What to write where a mask is wanted and `given` is none."""
    if isinstance(given, Tensor):
        return FOR_A_TENSOR
    return _FOR_A_FUNCTION if callable(given) else "masks.causal, masks.window(256), ..., and & | ~ of them"


class Mask(Pattern):
    """A rule that says for each query position which key positions it may read.

    Masks combine with `&` (both keep), `|` (either keeps) and `~` (the other way round). A mask may be
    another one for each sample: then its answers have batch axes in front.

    A mask of your own gives `keep`; with `narrow` and `narrow_hidden` it also knows its tiles.
    """

    def sample(self, index: tuple[int, ...]) -> "Mask":
        """The mask of one sample of the batch."""
        return self

    def joined(self, other: "Mask") -> "Mask | None":
        """One mask that keeps what both keep and tells more of tiles than the two apart, or None."""
        return None

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


class _Composed(Mask):
    """A mask of other masks: for a batch if one of them is, and tiles start anew where any of them does."""

    @property
    @abstractmethod
    def parts(self) -> tuple[Mask, ...]:
        """The masks that it is made of."""

    @property
    def batch(self) -> tuple[int, ...]:
        """The batch that its parts are for."""
        return self._one_of([part.batch for part in self.parts])

    @property
    def relative(self) -> bool:
        """Whether no part knows more than the distance."""
        return all(part.relative for part in self.parts)

    @property
    def known_positions(self) -> int | None:
        """The fewest that a part was told of."""
        counts = [part.known_positions for part in self.parts]
        told = [count for count in counts if count is not None]
        return min(told) if len(told) > 0 else None

    def sample(self, index: tuple[int, ...]) -> Mask:
        """The same of the masks of one sample."""
        return type(self)(*(part.sample(index) if part.batch else part for part in self.parts))

    def cuts(self, length: int) -> Tensor:
        """Where any part starts anew."""
        return torch.cat([part.cuts(length) for part in self.parts]).unique()

    def _one_of(self, batches: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        own = [(part, batch) for part, batch in zip(self.parts, batches, strict=True) if batch]
        if len({batch for _, batch in own}) > 1:
            raise ShapeError(
                where="Mask",
                what=", ".join(f"{part!r} is for a batch of {batch}" for part, batch in own),
                fix="combine masks for one batch, or with a mask that is the same for every sample",
            )
        return own[0][1] if own else ()


@dataclass(frozen=True)
class _Pair(_Composed):
    """Two masks."""

    left: Mask
    right: Mask

    @property
    def parts(self) -> tuple[Mask, ...]:
        """The two."""
        return (self.left, self.right)

    @cached_property
    def terms(self) -> tuple[Mask, ...]:
        """What is combined, however it is bracketed."""
        sides = [side.terms if isinstance(side, type(self)) else (side,) for side in (self.left, self.right)]
        return self._simplified((*sides[0], *sides[1]))

    def _simplified(self, terms: tuple[Mask, ...]) -> tuple[Mask, ...]:
        return terms

    def _answers(self, q_pos: Tensor, kv_pos: Tensor) -> list[Tensor]:
        keeps = [part.keep(q_pos, kv_pos) for part in self.parts]
        axes = max(q_pos.dim(), kv_pos.dim())
        self._one_of([tuple(keep.shape[: keep.dim() - axes]) for keep in keeps])
        return keeps


@dataclass(frozen=True)
class And(_Pair):
    """Both masks keep."""

    def _simplified(self, terms: tuple[Mask, ...]) -> tuple[Mask, ...]:
        kept: list[Mask] = []
        for term in terms:
            for place, other in enumerate(kept):
                if (both := other.joined(term)) is not None:
                    kept[place] = both
                    break
            else:
                kept.append(term)
        return tuple(kept)

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where both keep."""
        left, right = self._answers(q_pos, kv_pos)
        return left & right

    def narrow(self, area: Area) -> Area:
        """What every term leaves."""
        for term in self.terms:
            area = term.narrow(area)
        return area

    def narrow_hidden(self, area: Area) -> Area:
        """Whatever a term hides."""
        return reduce(Area.hull, (term.narrow_hidden(area) for term in self.terms))

    def some(self, area: Area) -> Tensor:
        """Each term is asked of what the others leave, or all could say yes of different pairs."""
        area = self.narrow(area)
        return reduce(torch.logical_and, (term.some(area) for term in self.terms), area.alive)

    def every(self, area: Area) -> Tensor:
        """Each term keeps every pair."""
        return reduce(torch.logical_and, (term.every(area) for term in self.terms))

    def __repr__(self) -> str:
        return f"({self.left!r} & {self.right!r})"


@dataclass(frozen=True)
class Or(_Pair):
    """At least one of two masks keeps."""

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where either keeps."""
        left, right = self._answers(q_pos, kv_pos)
        return left | right

    def narrow(self, area: Area) -> Area:
        """Whatever a term keeps."""
        return reduce(Area.hull, (term.narrow(area) for term in self.terms))

    def narrow_hidden(self, area: Area) -> Area:
        """What every term hides."""
        for term in self.terms:
            area = term.narrow_hidden(area)
        return area

    def some(self, area: Area) -> Tensor:
        """A term keeps some pair."""
        return reduce(torch.logical_or, (term.some(area) for term in self.terms))

    def every(self, area: Area) -> Tensor:
        """A term keeps every pair of what the others hide."""
        area = self.narrow_hidden(area)
        return reduce(torch.logical_or, (term.every(area) for term in self.terms), ~area.alive)

    def __repr__(self) -> str:
        return f"({self.left!r} | {self.right!r})"


@dataclass(frozen=True)
class Not(_Composed):
    """Keeps what another mask hides."""

    inner: Mask

    @property
    def parts(self) -> tuple[Mask, ...]:
        """The other mask."""
        return (self.inner,)

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where the other says False."""
        return ~self.inner.keep(q_pos, kv_pos)

    def narrow(self, area: Area) -> Area:
        """What the other hides."""
        return self.inner.narrow_hidden(area)

    def narrow_hidden(self, area: Area) -> Area:
        """What the other keeps."""
        return self.inner.narrow(area)

    def some(self, area: Area) -> Tensor:
        """The other does not keep every pair."""
        return ~self.inner.every(area)

    def every(self, area: Area) -> Tensor:
        """The other keeps no pair."""
        return ~self.inner.some(area)

    def __repr__(self) -> str:
        return f"~{self.inner!r}"


def _known(other: object, sign: str) -> Mask:
    if not isinstance(other, Mask):
        raise _no_mask(other, sign)
    return other


def _no_mask(other: object, sign: str) -> OptionError:
    return OptionError(
        where=f"Mask {sign}",
        what=f"masks combine with masks; got {type(other).__name__}",
        fix=instead_of(other),
    )
