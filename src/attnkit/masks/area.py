"""Areas: sets of pairs of positions, many at once, on which a mask is judged without looking at each pair.

    q_from <= q < q_to,   kv_from <= k < kv_to,   near <= q - k <= far

A rectangle, and a band along the diagonal. Two areas always meet in another one, whose sharpest bounds are known
exactly; so `causal & window(256) & first(4)` can tell whether a tile holds a kept pair. `near` and `far` both belong
to the area; `q_to` and `kv_to` don't.
"""

from typing import NamedTuple

import torch
from torch import Tensor

UNLIMITED = 1 << 60


class Area(NamedTuple):
    """Queries from `q_from` up to, not including, `q_to`, against keys from `kv_from` up to `kv_to`.

    Tensors of int64 that broadcast, one entry an area; where samples differ, batch axes stand in front.
    `near` and `far` bound how far back a query reads: by nothing where they are not given.
    """

    q_from: Tensor
    q_to: Tensor
    kv_from: Tensor
    kv_to: Tensor
    near: Tensor | int = -UNLIMITED
    far: Tensor | int = UNLIMITED

    @property
    def alive(self) -> Tensor:
        """Whether an area holds any pair of positions at all."""
        near, far = (
            _most(self.near, self.q_from - self.kv_to + 1),
            _least(self.far, self.q_to - 1 - self.kv_from),
        )
        return (self.q_from < self.q_to) & (self.kv_from < self.kv_to) & (near <= far)

    @property
    def anywhere(self) -> Tensor:
        """True, once for each area."""
        return torch.ones_like(self.q_from + self.kv_from, dtype=torch.bool)

    def tight(self) -> "Area":
        """The same pairs with the sharpest bounds: every query, key and distance left is one of a pair."""
        q_last, kv_last = self.q_to - 1, self.kv_to - 1
        return Area(
            _most(self.q_from, self.kv_from + self.near),
            _least(q_last, kv_last + self.far) + 1,
            _most(self.kv_from, self.q_from - self.far),
            _least(kv_last, q_last - self.near) + 1,
            _most(self.near, self.q_from - kv_last),
            _least(self.far, q_last - self.kv_from),
        )

    def within(
        self,
        *,
        q_from: Tensor | int = -UNLIMITED,
        q_to: Tensor | int = UNLIMITED,
        kv_from: Tensor | int = -UNLIMITED,
        kv_to: Tensor | int = UNLIMITED,
        near: Tensor | int = -UNLIMITED,
        far: Tensor | int = UNLIMITED,
    ) -> "Area":
        """The pairs that keep these bounds too, tight."""
        return Area(
            _most(self.q_from, q_from),
            _least(self.q_to, q_to),
            _most(self.kv_from, kv_from),
            _least(self.kv_to, kv_to),
            _most(self.near, near),
            _least(self.far, far),
        ).tight()

    def unless(self, gone: Tensor | bool) -> "Area":
        """No pair at all where `gone` is True."""
        return self._replace(q_to=torch.where(torch.as_tensor(gone), self.q_from, self.q_to))

    def hull(self, other: "Area") -> "Area":
        """The smallest area that holds the pairs of both."""
        here, there = self.alive, other.alive
        bounds = []
        for name, one, two in zip(self._fields, self, other, strict=True):
            wider = _least(one, two) if name in ("q_from", "kv_from", "near") else _most(one, two)
            bounds.append(torch.where(here & there, wider, torch.where(there, two, one)))
        return Area(*bounds)


class Cover(NamedTuple):
    """What a mask says of whole areas: `some` pair is kept, `every` pair is kept.

    Neither is EMPTY, both is FULL, `some` alone is PARTIAL. `some` may be True in vain and `every` may be False in
    vain, never the other way round; Kleene's three-valued logic is plain boolean algebra on the two.
    """

    some: Tensor
    every: Tensor


def spans(first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """The whole numbers from `first` (n,) to `last`, one after another: whose they are, and the numbers."""
    counts = (last - first + 1).clamp(min=0)
    owner = torch.arange(counts.numel(), device=counts.device).repeat_interleave(counts)
    before = counts.cumsum(0) - counts
    return owner, torch.arange(owner.numel(), device=owner.device) - before[owner] + first[owner]


def _most(one: Tensor | int, two: Tensor | int) -> Tensor:
    return torch.maximum(torch.as_tensor(one), torch.as_tensor(two))


def _least(one: Tensor | int, two: Tensor | int) -> Tensor:
    return torch.minimum(torch.as_tensor(one), torch.as_tensor(two))
