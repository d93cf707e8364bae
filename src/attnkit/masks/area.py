"""Areas: rectangles of positions, many at once, on which a mask is judged without looking at each pair."""

from typing import NamedTuple

import torch
from torch import Tensor


class Area(NamedTuple):
    """Queries from `q_from` up to, not including, `q_to`, against keys from `kv_from` up to `kv_to`.

    Four tensors of whole numbers that broadcast, one entry a rectangle; where samples differ, batch axes stand in front.
    """

    q_from: Tensor
    q_to: Tensor
    kv_from: Tensor
    kv_to: Tensor

    @property
    def alive(self) -> Tensor:
        """Whether a rectangle holds any pair of positions at all."""
        return (self.q_from < self.q_to) & (self.kv_from < self.kv_to)

    @property
    def anywhere(self) -> Tensor:
        """True, once for each rectangle."""
        return torch.ones_like(self.q_from + self.kv_from, dtype=torch.bool)


class Cover(NamedTuple):
    """What a mask says of whole rectangles: `some` pair is kept, `every` pair is kept.

    Neither is EMPTY, both is FULL, `some` alone is PARTIAL. `some` may be True in vain and `every` may be False in
    vain, never the other way round; Kleene's three-valued logic is plain boolean algebra on the two.
    """

    some: Tensor
    every: Tensor
