"""Tensors for a mechanism, drawn by a seed: what its picture and its cost are computed from.

projected = then(bias_start + spread * normal draw);    learned = start, or start + a small draw
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnkit.masks import Mask
from attnkit.mechanism import Bound, Learned, Mechanism, Projected, Sizes, learned, projections

_SPREAD = 1.2  # scores of query and key then spread by 1.4: weights differ, and none takes all
_STIR = 0.25
_LENGTHS = ("context_length", "length")  # options that say how many tokens there are


@dataclass(frozen=True)
class Draw:
    """A mechanism, its options, and tensors that it can be called with.

    Attributes:
        bound: the mechanism and its options.
        sizes: widths and counts of the tensors.
        tensors: query, key, value and its parts, by name; one sample, or as many as its mask is for.
    """

    bound: Bound
    sizes: Sizes
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, bound: Bound, sizes: Sizes, *, length: int, alike: bool = False) -> "Draw":
        """Tensors of `length` tokens.

        Args:
            bound: the mechanism and its options.
            sizes: widths and counts.
            length: how many tokens.
            alike: gives every head the same numbers, and leaves what is learned at its first value.
        """
        generator = torch.Generator().manual_seed(0)
        parts = bound.mechanism.parts
        tensors = {
            part.name: _learned(part, bound, sizes, None if alike else generator) for part in learned(parts)
        }
        batch = bound.own_mask(tensors, sizes).batch or (1,)
        for part in projections(parts):
            heads, width = (sizes.of(extent, bound.options) for extent in (part.heads, part.width))
            shape = (*batch, 1 if alike else heads, length, width)
            drawn = _SPREAD * torch.randn(shape, generator=generator, dtype=torch.float64)
            tensors[part.name] = _projected(part, drawn.expand(*batch, heads, length, width))
        return cls(bound, sizes, tensors)

    @property
    def mechanism(self) -> Mechanism:
        """Which one."""
        return self.bound.mechanism

    @property
    def mask(self) -> Mask:
        """Where it looks."""
        return self.bound.own_mask(self.tensors, self.sizes)

    @property
    def prepared(self) -> dict[str, Tensor]:
        """The tensors after what happens to each token by itself."""
        return self.bound.prepared(self.tensors, self.sizes, q_start=0)

    def weights(self) -> Tensor:
        """How much each query reads of each key, `*batch heads q_len kv_len`."""
        return self.bound.weighed(self.prepared, self.sizes, mask=None, q_start=0)

    def context(self) -> Tensor:
        """What the mechanism makes of the tensors, `*batch heads len d_value`."""
        return self.bound.attended(self.prepared, self.sizes, mask=None, q_start=0)

    def to(self, dtype: torch.dtype) -> "Draw":
        """The same in another dtype."""
        return Draw(self.bound, self.sizes, {name: t.to(dtype) for name, t in self.tensors.items()})


def fitted(bound: Bound, length: int) -> Bound:
    """The same for at least `length` tokens, where it has an option that says for how many it is made."""
    short = {name: length for name in _LENGTHS if (bound.options.get(name) or length) < length}
    return bound.mechanism.bind({**bound.options, **short}) if short else bound


def longest(bound: Bound, sizes: Sizes) -> int | None:
    """How many positions its mask was told of; None where it knows all."""
    tensors: dict[str, Any] = {
        part.name: _learned(part, bound, sizes, None) for part in learned(bound.mechanism.parts)
    }
    return bound.own_mask(tensors, sizes).known_positions


def _learned(part: Learned, bound: Bound, sizes: Sizes, generator: torch.Generator | None) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        start = part.start(part.sizes(sizes, bound.options)).double()
    if generator is None:
        return start
    return start + _STIR * torch.randn(start.shape, generator=generator, dtype=start.dtype)


def _projected(part: Projected, drawn: Tensor) -> Tensor:
    return part.then(drawn + part.bias_start if part.bias else drawn)
